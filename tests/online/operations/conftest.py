"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from online.operations.installation import Installation
from tests.online.operations.installed import installed


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return installed(tmp_path / "state")
