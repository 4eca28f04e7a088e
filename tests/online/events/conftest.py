"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from online.events.buffer import Buffer
from online.state.directory import StateDir
from tests.online.events.traffic import SETTINGS, url


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    yield opened
    opened.close()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")
