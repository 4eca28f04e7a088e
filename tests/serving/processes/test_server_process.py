"""The flags of an engine of the update's own; tests/serving/engine/test_rollouts.py starts one."""

from __future__ import annotations

from pathlib import Path

from online.settings.load import load
from online.settings.settings import Settings
from serving.cli.serve import parser
from serving.processes.server_process import conditions


def test_it_serves_under_the_conditions_that_are_served_under(tmp_path: Path) -> None:
    given = {"chat_template": "{{ messages }}", "chat_template_kwargs": {"enable_thinking": False}, "dtype": "bfloat16"}
    settings = Settings(state_dir=tmp_path, **given)
    known, rest = parser().parse_known_args(["--state-dir", str(tmp_path), *conditions(settings)])
    assert load(known, {}) == settings and rest == []
    assert conditions(Settings(state_dir=tmp_path)) == []
