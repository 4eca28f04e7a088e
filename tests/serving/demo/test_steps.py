"""What the demo says of where it is, in a log file and on a terminal."""

from __future__ import annotations

import io
import re
import time

from rich.console import Console

from serving.demo.steps import Step, showing, spelt


def written(file: io.StringIO) -> list[str]:
    return file.getvalue().splitlines()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_log_file_gets_lines_though_the_step_says_nothing():
    file = io.StringIO()
    with showing(Console(file=file), "4 · learn", every_s=0.01) as step:
        wait_for(lambda: len(written(file)) >= 3)
        step.at(0.5, "learning 15/30")
        wait_for(lambda: any("50%" in line for line in written(file)))
    first, *_, last = written(file)
    assert re.fullmatch(r"4 · learn: 0% after \d+ s, time left unknown", first)
    assert any(
        re.fullmatch(r"4 · learn: 50% after \d+ s, about \d+ s left · learning 15/30", line) for line in written(file)
    )
    assert re.fullmatch(r"4 · learn: done after \d+ s · learning 15/30", last)
    assert "\x1b" not in file.getvalue()


def test_a_stage_has_its_line_as_it_begins_however_short_it_is():
    file = io.StringIO()
    with showing(Console(file=file), "4 · learn", every_s=3600.0) as step:
        for stage in ("selecting", "learning", "gating"):
            step.at(0.5, f"{stage} 1/10", stage=stage)
            wait_for(lambda stage=stage: any(line.endswith(f"{stage} 1/10") for line in written(file)))
    assert len(written(file)) == 4


def test_a_step_that_fails_is_not_called_done():
    file = io.StringIO()
    try:
        with showing(Console(file=file), "1 · serve"):
            raise RuntimeError("no")
    except RuntimeError:
        pass
    assert "done" not in file.getvalue()


def test_a_terminal_gets_a_bar_and_a_caller_that_draws_itself_none():
    terminal = io.StringIO()
    with showing(Console(file=terminal, force_terminal=True, width=120), "3 · measure") as step:
        step.at(0.5, "test prompts 5/10")
    assert "test prompts 5/10" in terminal.getvalue() and "━" in terminal.getvalue()
    terminal = io.StringIO()
    with showing(Console(file=terminal, force_terminal=True), "2 · watch", bar=False) as step:
        step.at(0.5)
    assert terminal.getvalue() == ""


def test_a_share_stays_between_nothing_and_all():
    step = Step("x")
    step.at(1.7)
    assert step.share == 1.0 and step.left == 0.0
    step.at(-1.0)
    assert step.share == 0.0 and step.left is None


def test_durations_are_spelt_as_people_say_them():
    assert [spelt(seconds) for seconds in (0.2, 59.4, 59.6, 200.0)] == ["0 s", "59 s", "1 min 00 s", "3 min 20 s"]
