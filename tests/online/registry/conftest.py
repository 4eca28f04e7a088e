"""Fixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE
from tests.online.registry.shared import Place, clear


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(StateDir(tmp_path / "state"), BASE)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    """Stores of memory begin empty and sound."""
    clear()
    yield
    clear()


@pytest.fixture(params=["memory://sirl", "frail://sirl", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/store" if request.param == "file" else request.param


@pytest.fixture
def learner(tmp_path: Path) -> Place:
    return Place(tmp_path / "learner")


@pytest.fixture
def server(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")
