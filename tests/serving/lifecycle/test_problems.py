"""What is wrong, part by part."""

from __future__ import annotations

import logging

import pytest

from serving.lifecycle.problems import Problems


def test_a_problem_is_logged_when_it_comes_changes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sirl")
    problems = Problems()
    for said in ("It is full.", "It is full.", "It is gone.", None, None):
        problems.note("disk", said)
        assert problems == ({} if said is None else {"disk": said})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "disk: It is full."), ("WARNING", "disk: It is gone."), ("INFO", "disk is sound again"),
    ]  # fmt: skip
