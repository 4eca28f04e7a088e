"""Drift: how far the refusal masses of live traffic lie from calibration's.

What moves the place where refusing is weighed (a template, a demanded beginning, a language without openings) shows as
masses that are other than calibration's, whatever single answers say.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from guard.packed_measurement import MASS_STEPS

DECILES = 9
WINDOW = 500
"""Responses that are compared with a calibration."""
LEAST = 100
"""Responses below which nothing is said of a drift."""


def deciles(masses: ArrayLike) -> tuple[float, ...]:
    """The nine deciles of masses (probabilities), as exact as they travel: finer ones would tell 0 from next to 0."""
    travelled = np.rint(np.asarray(masses, float) * MASS_STEPS) / MASS_STEPS
    return tuple(map(float, np.quantile(travelled, np.arange(1, DECILES + 1) / (DECILES + 1), method="inverted_cdf")))


@dataclass(slots=True)
class Drift:
    """The newest masses against a calibration's deciles."""

    expected: Sequence[float]
    _masses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _under: Counter[int] = field(default_factory=Counter)
    _upto: Counter[int] = field(default_factory=Counter)

    def add(self, mass: float) -> None:
        """Take in the mass (a probability) where an answer began."""
        if len(self._masses) == WINDOW:
            self._count(self._masses[0], -1)
        self._masses.append(mass)
        self._count(mass, 1)

    @property
    def value(self) -> float:
        """The largest gap between the share of masses up to a decile and the share that calibration had there (Kolmogorov's
        distance at the deciles), 0 to 1; NaN for fewer than LEAST masses."""
        if len(self._masses) < LEAST or not self.expected:
            return float("nan")
        under = upto = 0
        gap, n = 0.0, len(self._masses)
        for at in range(len(self.expected)):
            under, upto = under + self._under[at], upto + self._upto[at]
            share = (at + 1) / (len(self.expected) + 1)
            gap = max(gap, share - upto / n, under / n - share)  # masses that equal a decile count for neither
        return gap

    def _count(self, mass: float, by: int) -> None:
        self._upto[bisect_left(self.expected, mass)] += by  # the first decile that is not under it
        self._under[bisect_right(self.expected, mass)] += by  # the first decile over it
