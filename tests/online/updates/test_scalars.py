"""TensorBoard's copy of the metrics: all of them, once each step, resumed or not; and no reason to lose an update."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from online.updates.scalars import scalars


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_each_step_is_there_once_though_a_kill_lost_some(tmp_path: Path) -> None:
    with scalars(tmp_path, 0) as note:
        for step in range(3):
            note({"step": step, "reward": -step, "entropy": 0.5})
    with scalars(tmp_path, 2) as note:  # the last checkpoint was before step 2
        for step in range(2, 4):
            note({"step": step, "reward": -10.0 * step})
    assert written(tmp_path) == {
        "reward": [(0, 0.0), (1, -1.0), (2, -20.0), (3, -30.0)],
        "entropy": [(0, 0.5), (1, 0.5)],
    }


def test_nothing_is_written_where_nothing_is_asked(tmp_path: Path) -> None:
    with scalars(None, 0) as note:
        note({"step": 0, "reward": 1.0})
    assert not list(tmp_path.iterdir())


def test_without_the_package_it_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with scalars(tmp_path, 0) as note:
        note({"step": 0, "reward": 1.0})
    assert not list(tmp_path.iterdir()) and "pip install" in caplog.text
