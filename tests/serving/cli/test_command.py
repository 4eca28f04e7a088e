"""What subcommands share."""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import models
from serving.cli.command import chosen, command, give_way, moment
from serving.processes.learner_process import NICE


def parsed(*words: str, model: str | None = "model") -> argparse.Namespace:
    top = argparse.ArgumentParser()
    command(top.add_subparsers(), "trial", lambda args: 0, "a trial", ("top", "learn"), model=model)
    return top.parse_args(["trial", *words])


def test_a_command_has_its_groups_settings_and_a_model_by_place_or_flag(tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path), "--learn-min-contested", "7"]
    settings, model = chosen(parsed(*state))
    assert (settings.state_dir, settings.learn.min_contested, model) == (tmp_path, 7, models.bundled())
    assert parsed("folder").model == parsed("--model", "folder", model="--model").model == "folder"


def test_settings_of_other_groups_and_halves_of_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--update-steps", "3"], ["--learn-min", "3"]):
        with pytest.raises(SystemExit):
            parsed(*words)
        assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(("words", "given"), [([], NICE), (["--while-parent"], 0)])
def test_what_learns_gives_way_once(words: list[str], given: int) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with ProcessPoolExecutor(1, get_context("spawn")) as own:
        assert own.submit(niceness, words).result() == min(19, before + given)


def niceness(words: list[str]) -> int:
    """Of a process that has given way."""
    give_way(parsed(*words))
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_moments_are_utc() -> None:
    assert moment(0.9) == "1970-01-01T00:00:00+00:00"
