"""What the server and the scheduler see of updates, from their folders alone."""

from __future__ import annotations

import json
import time

import pytest

from online.state.directory import StateDir
from online.updates import progress


@pytest.fixture
def state(tmp_path) -> StateDir:
    return StateDir(tmp_path / "state")


def update(state: StateDir, name: str, started: float, **files: object) -> None:
    folder = state.updates / name
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"started": started, "key": None}))
    for file, content in files.items():
        (folder / f"{file}.json").write_text(content if isinstance(content, str) else json.dumps(content))


def at(stage: str, step: int, total: int, when: float | None = None) -> dict:
    return {"stage": stage, "step": step, "total": total, "time": time.time() if when is None else when}


def test_without_updates(state):
    assert progress.ratio(state) == 0 and not progress.unfinished(state)
    assert progress.finished(state, ()) == [] and progress.last_started(state, 7.0) == 7.0


def test_progress_rises_through_the_stages(state):
    update(state, "a", 1.0)
    seen = []
    for stage in progress.STAGES:
        for step in (0, 5):
            (state.updates / "a" / "progress.json").write_text(json.dumps(at(stage, step, 10)))
            seen.append(progress.ratio(state))
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1] < 1


def test_a_dead_one_shows_no_progress_and_is_unfinished(state):
    update(state, "a", 1.0, progress=at("learning", 5, 10, time.time() - 2 * progress.STALE_S))
    assert progress.ratio(state) == 0 and progress.unfinished(state)


def test_outcomes_are_told_once(state):
    update(state, "a", 1.0, outcome={"id": "a", "status": "promoted", "seconds": 3.0})
    update(state, "b", 5.0, outcome={"id": "b", "status": "rejected", "seconds": 2.0})
    assert [found["id"] for found in progress.finished(state, {"a"})] == ["b"]
    assert progress.last_started(state, 0.0) == 5.0 and progress.ratio(state) == 0


def test_a_torn_file_is_one_that_is_not_there(state):
    update(state, "a", 1.0, progress='{"stage": "lear', outcome="")
    assert progress.ratio(state) == 0 and progress.unfinished(state)
