"""Cores: how many this process may use, and how many of them nobody else does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from online.state.directory import StateDir

GROUP = Path("/sys/fs/cgroup")
"""Where Linux says what this process's control group may have."""
LOOK_S = 1.0
"""For which is looked at what the cores do."""


def cores() -> int:
    """Physical cores this process may use, by its affinity and its container's share of time; at least one."""
    import psutil

    allowed = len(os.sched_getaffinity(0))
    return max(1, int(min(psutil.cpu_count(logical=False) or allowed, allowed, _quota())))


def idle_cores(state: StateDir) -> int:
    """Those of them that are idle over a second, less one where an endpoint runs on the state directory; at least one.

    Threads that find no core of their own are no help but harm: each of a product's waits for the last. Beside six busy
    processes on two cores three steps of the bundled model took 14 s with one thread, and 45 to 316 s with two.
    """
    import psutil

    allowed = os.sched_getaffinity(0)
    busy = psutil.cpu_percent(interval=LOOK_S, percpu=True)
    idle: int = round(sum(1 - share / 100 for core, share in enumerate(busy) if core in allowed))
    return max(1, min(idle, cores() - state.endpoint_path.exists()))


def _quota() -> float:
    """Seconds of processor time a second that the container may have (control groups, versions 2 and 1)."""
    with suppress(OSError, ValueError):  # not there, or "max"
        quota, period = map(int, (GROUP / "cpu.max").read_text("utf-8").split())
        return quota / period
    with suppress(OSError, ValueError):
        quota, period = (int((GROUP / f"cpu/cpu.cfs_{name}_us").read_text("utf-8")) for name in ("quota", "period"))
        return quota / period if quota > 0 else float("inf")
    return float("inf")
