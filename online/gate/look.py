"""A look: how much of its exam the gate has seen, and the part of the error that it may spend there.

A group-sequential test asks in parts and ends at the first look that decides. At share t of the prompts it has spent
alpha t^2 (Kim and DeMets, Biometrika 74, 1987). Each look spends what was added since the one before as an error of its
own. By the union bound the whole is kept, however the looks hang together.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from online.gate.held_out import HeldOut, Rows


@dataclass(frozen=True, slots=True)
class Look:
    """One of `of` looks, counted from 1. Each sees twice what the one before it saw, and the last sees all."""

    number: int = 1
    of: int = 1

    @property
    def share(self) -> float:
        """How much of the exam is seen, 0 to 1."""
        return 2.0 ** (self.number - self.of)

    @property
    def first(self) -> bool:
        return self.number == 1

    @property
    def last(self) -> bool:
        return self.number == self.of

    @property
    def end(self) -> Look:
        """The last one of these looks."""
        return Look(self.of, self.of)

    def error(self, whole: float) -> float:
        """What of an error rate is spent here: whole (t^2 - s^2), t the share seen and s the share seen before."""
        before = 0.0 if self.number == 1 else self.share / 2
        return whole * (self.share**2 - before**2)

    def planned(self, seen: int) -> int:
        """Prompts at the last look, of those seen by now."""
        return round(seen / self.share)


ONLY = Look()
"""The one look of an exam that is asked whole."""


def looks(held_out: HeldOut, of: int, luck: str) -> Iterator[tuple[Look, Rows]]:
    """Each look with the rows that it adds: the same share of every class and of live traffic, in an order drawn by `luck`.
    Suites of the operator's own are whole at the first look, for each of their prompts has its say."""
    groups: dict[str, list[int]] = {}
    for place, prompt in enumerate(held_out.prompts):
        groups.setdefault(prompt.over_refusal_class or prompt.kind, []).append(place)
    draw = random.Random(luck)
    asked = [draw.sample(group, len(group)) for group in groups.values()]
    traffic = [draw.sample(range(len(held_out.traffic)), len(held_out.traffic))]
    before, theirs = 0.0, np.arange(len(held_out.prompts), len(held_out.asked))
    for look in (Look(number, of) for number in range(1, of + 1)):
        yield look, Rows(np.append(_between(asked, before, look.share), theirs), _between(traffic, before, look.share))
        before, theirs = look.share, theirs[:0]


def _between(groups: Sequence[Sequence[int]], low: float, high: float) -> NDArray[np.int64]:
    """What lies between two shares of each group, in ascending order."""
    parts = (group[math.ceil(low * len(group)) : math.ceil(high * len(group))] for group in groups)
    return np.array(sorted(chain.from_iterable(parts)), np.int64)
