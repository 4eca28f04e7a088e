"""`sirl` itself: which command is meant, and how it fails."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from serving.cli.main import COMMANDS, main, parser
from tests.serving.cli.conftest import Run


def test_every_command_is_in_the_help_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    told = parser().format_help()
    for name in ("serve", "eval", *(module.__name__.rpartition(".")[2] for module in COMMANDS)):
        assert re.search(rf"^    {name}\s+\w", told, re.MULTILINE), name
    for module in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([module.__name__.rpartition(".")[2], "--help"])
        assert ended.value.code == 0 and capsys.readouterr().out.startswith("usage: sirl ")


def test_an_expected_failure_is_one_sentence_and_status_1(sirl: Run) -> None:
    status, out, error = sirl("explain", "newest")
    assert (status, out) == (1, "") and error == "sirl: newest names no adapter: give a version such as v3, or base.\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["adapters", "burn"], ["explain", "v1", "--nonsense"]])
def test_what_is_no_command_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "usage: sirl" in capsys.readouterr().err


def test_what_a_command_writes_is_its_users_alone(sirl: Run, tmp_path: Path) -> None:
    sirl("adapters", "list")
    (tmp_path / "file").write_text("")
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0 and os.umask(0o077) == 0o077
