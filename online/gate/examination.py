"""An examination: candidate and references are asked look by look, until the decision stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from online.gate.gate import GateReport, compare
from online.gate.held_out import HeldOut, Measured, Rows
from online.gate.look import looks
from online.settings.groups import GateSettings

CANDIDATE = "candidate"


def examine(
    held_out: HeldOut,
    ask: Callable[[str, Rows], Measured],
    references: Sequence[str],
    settings: GateSettings,
    luck: str = "",
) -> GateReport:
    """What the gate decides, at the first of `gate.looks` looks at which that stands.

    ask(name, rows): what the candidate ("candidate") or a reference does at some rows of what is held out. Nobody is asked
    what is not looked at. luck: draws which prompts come first.
    """
    parts: dict[str, list[Measured]] = {name: [] for name in (CANDIDATE, *references)}
    seen: list[Rows] = []
    for look, rows in looks(held_out, settings.looks, luck):
        if len(rows.asked) or len(rows.traffic):
            seen.append(rows)
            for name, found in parts.items():
                found.append(ask(name, rows))
        whole = Rows(*(np.sort(np.concatenate([getattr(one, what) for one in seen])) for what in ("asked", "traffic")))
        measured = {name: Measured.joined(found, seen) for name, found in parts.items()}
        report = compare(held_out.some(whole), measured.pop(CANDIDATE), measured, settings, look)
        if report.final:
            break
    return report
