"""The progress of updates, read from their folders by server and scheduler."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from online.state.directory import StateDir
from online.state.files import read_json

STAGES = {
    "checking": (0.01, 0.12),
    "calibrating the base": (0.12, 0.12),
    "selecting": (0.12, 0.14),
    "learning": (0.14, 0.41),
    "calibrating the candidate": (0.41, 0.66),
    "gating": (0.66, 1.0),
}
"""Share of an update's time at which each of its stages begins and ends, roughly."""
STALE_S = 600.0
"""Seconds without a word after which an update is taken for dead."""


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """One JSON file of an update's folder; None where it is not (yet) there."""
    return read_json(folder / name)


def folders(state: StateDir) -> list[Path]:
    """The folders of all updates, the newest last."""
    return sorted(path.parent for path in state.updates.glob("*/plan.json"))


def finished(state: StateDir, known: Collection[str]) -> list[dict[str, Any]]:
    """The outcomes of updates that are not in `known`, with their `id`."""
    fresh = ((path.name, read(path, "outcome.json")) for path in folders(state) if path.name not in known)
    return [{**outcome, "id": name} for name, outcome in fresh if outcome is not None]


def unfinished(state: StateDir) -> bool:
    """Whether an update was begun and has no outcome."""
    return any(read(path, "outcome.json") is None for path in folders(state))


def last_started(state: StateDir, otherwise: float) -> float:
    """Unix time at which the newest update began."""
    plans = (read(path, "plan.json") for path in folders(state))
    moments = (plan.get("started") for plan in plans if isinstance(plan, dict))
    return max((moment for moment in moments if isinstance(moment, int | float)), default=otherwise)


def ratio(state: StateDir) -> float:
    """Progress of the running update, 0 to 1; 0 where none runs."""
    newest = folders(state)[-1:]
    if not newest or read(newest[0], "outcome.json") is not None:
        return 0.0
    progress = read(newest[0], "progress.json")
    if progress is None or abs(time.time() - progress["time"]) > STALE_S:
        return 0.0
    begin, end = STAGES.get(progress["stage"], (0.01, 0.01))
    within: float = (end - begin) * progress["step"] / max(progress["total"], 1)
    return begin + within
