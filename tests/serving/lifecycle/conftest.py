"""A whole service of the bundled model, without an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import models
from serving.lifecycle.service import Service
from tests.serving.offline import offline


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with offline(tmp_path, models.bundled()) as made:
        yield made
