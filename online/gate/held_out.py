"""Held-out prompts: what candidate, base and active version are asked at the gate.

Labelled held-out prompts, drawn anew for every candidate; the operator's own suites; and recent live prompts that the base
does not hesitate on, whose labels nobody knows: on them a candidate must stay as the base is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from evaluation import Prompt
from guard.openings import Tokens

TASKS = 2
"""Tasks asked for each prompt of another class: whether an answer is right has no exact mass."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Places of labelled prompts (in `HeldOut.asked`) and of live ones (in `HeldOut.traffic`), each in ascending order."""

    asked: NDArray[np.int64]
    traffic: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out prompts, on which every claim must be shown; suites that must not contradict one, by name; suites of which
    every single prompt must come out right; and recent live prompts of the base's low band."""

    prompts: Sequence[Prompt]
    suites: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    vetoes: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    traffic: Sequence[Tokens] = ()

    @property
    def asked(self) -> list[Prompt]:
        """All labelled prompts, in the order of `Scores` and `Answers`."""
        return [*chain(*self.parts)]

    @property
    def parts(self) -> list[Sequence[Prompt]]:
        """The same, apart: the held-out prompts, then each suite, then each veto."""
        return [self.prompts, *self.suites.values(), *self.vetoes.values()]

    @property
    def rows(self) -> Rows:
        """All of it."""
        return Rows(np.arange(len(self.asked)), np.arange(len(self.traffic)))

    def without_tasks(self, rows: Rows) -> Rows:
        """Rows but for those of tasks."""
        asked = self.asked
        return Rows(np.array([row for row in rows.asked if asked[row].kind != "task"], np.int64), rows.traffic)

    def some(self, rows: Rows) -> HeldOut:
        """What lies at some rows of it."""
        kept, at = set(rows.asked.tolist()), 0
        found: list[list[Prompt]] = []
        for part in self.parts:
            found.append([prompt for place, prompt in enumerate(part, at) if place in kept])
            at += len(part)
        named = iter(found[1:])
        suites, vetoes = ({name: next(named) for name in names} for names in (self.suites, self.vetoes))
        return HeldOut(found[0], suites, vetoes, [self.traffic[row] for row in rows.traffic])


def draw_held_out(prompts: Sequence[Prompt], limit: int, luck: str | None = None) -> list[Prompt]:
    """`limit` prompts of each class (harmful and the three in which refusals are too many) and twice as many tasks: the
    first ones or, with `luck`, a draw of its own."""
    turns = list(prompts) if luck is None else random.Random(luck).sample(list(prompts), len(prompts))
    counts: Counter[str] = Counter()
    kept = set()
    for prompt in turns:
        group = prompt.over_refusal_class or prompt.kind
        counts[group] += 1
        if counts[group] <= limit * (TASKS if group == "task" else 1):
            kept.add(prompt.id)
    return [prompt for prompt in prompts if prompt.id in kept]
