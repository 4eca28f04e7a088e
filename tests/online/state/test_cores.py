"""How many cores there are for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from online.state import cores as module
from online.state.cores import cores, idle_cores


def test_cores_are_those_we_may_use() -> None:
    assert 1 <= cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "350000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_a_container_has_those_of_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], found: int
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "GROUP", tmp_path)
    monkeypatch.setattr(module, "CPUS", tmp_path / "unknown")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    assert cores() == found


@pytest.mark.parametrize(
    ("allowed", "found"), [({0, 1, 2, 3}, 4), ({0, 4}, 1), ({0, 4, 1, 5}, 2), ({0, 1, 5}, 2), (set(range(8)), 4)]
)
def test_two_threads_of_a_core_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], found: int
) -> None:
    for cpu in range(8):
        (topology := tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(module, "GROUP", tmp_path)
    monkeypatch.setattr(module, "CPUS", tmp_path)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: allowed)
    assert cores() == found


def test_where_no_process_has_an_affinity_all_cores_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr(module, "GROUP", tmp_path)
    monkeypatch.setattr(module, "CPUS", tmp_path)
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval, percpu: [0.0] * 16)
    assert cores() == idle_cores() == 8


@pytest.mark.parametrize(
    ("busy", "idle"),
    [
        ([0.0] * 8, 8),
        ([0.0, 3.0], 2),
        ([10.0, 15.0], 2),  # an endpoint with few requests
        ([60.0, 10.0], 1),
        ([100.0, 20.0], 1),
        ([100.0] * 4, 1),
        ([2.0], 1),
        ([90.0, 0.0, 0.0, 5.0], 3),
    ],
)
def test_those_count_that_hardly_anybody_uses(monkeypatch: pytest.MonkeyPatch, busy: list[float], idle: int) -> None:
    monkeypatch.setattr(module, "cores", lambda: len(busy))
    monkeypatch.setattr("psutil.cpu_percent", lambda interval, percpu: [*busy, 0.0])
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(len(busy))))
    assert idle_cores() == idle
