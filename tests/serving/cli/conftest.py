"""`sirl` called as a function: what a command writes, and its exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from online.operations.installation import Installation
from serving.cli.main import main
from tests.online.operations.installed import installed

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    """The installation that the commands work on."""
    return installed(tmp_path / "state")


@pytest.fixture
def sirl(here: Installation, capsys: pytest.CaptureFixture[str]) -> Run:
    """(words of a command) -> (status, standard output, standard error); the state directory is `here`'s."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*words, "--state-dir", str(here.state.path)])
        return (status, *capsys.readouterr())

    return run
