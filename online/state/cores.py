"""Cores: how many this process may use, and how many of them nobody else does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what this process's control group may have."""
CPUS = Path("/sys/devices/system/cpu")
"""Where Linux says which logical CPUs are threads of one core."""
LOOK_S = 2.0
"""For which is looked at what the cores do."""
LIGHT = 0.3
"""Share of a core that others may use of those that count as idle: an endpoint with few requests, which goes first."""


def cores() -> int:
    """Physical cores this process may use, by its affinity and its container's share of time; at least one."""
    return max(1, int(min(_physical(_allowed()), _quota())))


def idle_cores() -> int:
    """Those of them that are idle over LOOK_S, an endpoint's among them; at least one.

    Threads that find no core of their own are no help but harm: each of a product's waits for the last. Beside six busy
    processes on two cores three steps of the bundled model took 14 s with one thread, and 45 to 316 s with two.
    """
    import psutil

    allowed = _allowed()
    busy = psutil.cpu_percent(interval=LOOK_S, percpu=True)
    idle = sum(1 - share / 100 for core, share in enumerate(busy) if core in allowed)
    return max(1, min(int(idle + LIGHT), cores()))


def _allowed() -> set[int]:
    """The logical CPUs that this process may use; all where the system keeps no affinity, as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _physical(cpus: set[int]) -> int:
    """How many cores these logical CPUs are threads of; where the system does not say, at most those of the machine."""
    import psutil

    with suppress(OSError):
        return len({(CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text("utf-8") for cpu in cpus})
    return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))


def _quota() -> float:
    """Seconds of processor time a second that the container may have (control groups, versions 2 and 1)."""
    with suppress(OSError, ValueError):  # not there, or "max"
        quota, period = map(int, (GROUP / "cpu.max").read_text("utf-8").split())
        return quota / period
    with suppress(OSError, ValueError):
        quota, period = (int((GROUP / f"cpu/cpu.cfs_{name}_us").read_text("utf-8")) for name in ("quota", "period"))
        return quota / period if quota > 0 else float("inf")
    return float("inf")
