"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from online.events.buffer import Buffer
from online.settings.groups import BufferSettings


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(f"sqlite:///{tmp_path / 'buffer.sqlite'}", BufferSettings())
    yield opened
    opened.close()
