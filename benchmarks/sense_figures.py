"""Figures of `benchmarks.sense`: areas and shares over two directions of a split, with intervals over goals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.sense_prompts import Row
from evaluation.statistics import Figure, cluster_bootstrap

DRAWS = 1000
LIMITS = {
    "1%": {"plain": 0.01, "wrapped": 0.01},
    "5%": {"plain": 0.05, "wrapped": 0.05},
    "1%, 5% of borderline": {"plain": 0.01, "wrapped": 0.01, "borderline": 0.05},
}
"""Shares of each harmless class that may be over a threshold, as it is set on the half that is fitted on."""

Numbers = NDArray[np.float64]
Chosen = Callable[[Row], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """One half fitted on, the other tested. Scores of a signal by its name: of the rows fitted on out of fold, and of those
    tested; NaN where the signal was not read."""

    fitted: Sequence[Row]
    tested: Sequence[Row]
    known: dict[str, Numbers]
    scores: dict[str, Numbers]

    def part(self, name: str, chosen: Chosen) -> tuple[Numbers, list[str]]:
        """Scores and goals of the tested rows that are chosen and read."""
        taken = [i for i, row in enumerate(self.tested) if chosen(row) and np.isfinite(self.scores[name][i])]
        return self.scores[name][taken], [self.tested[i].goal for i in taken]

    def threshold(self, name: str, limits: dict[str, float]) -> float:
        """The lowest that holds each class to its share among the rows fitted on."""
        found = []
        for shape, share in limits.items():
            of_class = [x for x, row in zip(self.known[name], self.fitted, strict=True) if row.shape == shape]
            if len(of_class := [x for x in of_class if np.isfinite(x)]):
                found.append(float(np.quantile(of_class, 1 - share, method="higher")))
        return max(found, default=np.inf)


def weights(goals: Sequence[Sequence[str]], seed: int) -> list[NDArray[np.float64]]:
    """How often each row is in each draw of goals, (draws, rows), of several lists of rows at once."""
    every = sorted({goal for some in goals for goal in some})
    place = {goal: i for i, goal in enumerate(every)}
    drawn = np.random.default_rng(seed).multinomial(len(every), np.full(len(every), 1 / len(every)), size=DRAWS)
    return [drawn[:, [place[goal] for goal in some]].astype(float) for some in goals]


def areas(directions: Sequence[Direction], name: str, low: Chosen, high: Chosen, *, seed: int = 0) -> Figure:
    """AUROC over pairs that were scored by one fit, with a percentile interval over resampled goals."""
    top, whole, n = np.zeros(DRAWS + 1), np.zeros(DRAWS + 1), 0
    for direction in directions:
        (x, of_x), (y, of_y) = direction.part(name, low), direction.part(name, high)
        if not (len(x) and len(y)):
            continue
        n += len(x) + len(y)
        wins = (x[None] < y[:, None]) + 0.5 * (x[None] == y[:, None])
        of_low, of_high = weights([of_x, of_y], seed)
        of_low, of_high = (np.vstack([np.ones(w.shape[1]), w]) for w in (of_low, of_high))
        top += ((of_high @ wins) * of_low).sum(1)
        whole += of_high.sum(1) * of_low.sum(1)
    if not n:
        return Figure(float("nan"), 0.0, 1.0, 0)
    drawn = top[1:][whole[1:] > 0] / whole[1:][whole[1:] > 0]
    return Figure(float(top[0] / whole[0]), *map(float, np.quantile(drawn, [0.025, 0.975])), n)


def share_over(directions: Sequence[Direction], name: str, limits: dict[str, float], chosen: Chosen) -> Figure:
    """Share of tested rows over the threshold of the half that was fitted on, with an interval over goals."""
    hits, goals = [], []
    for direction in directions:
        x, of_x = direction.part(name, chosen)
        hits += (x > direction.threshold(name, limits)).tolist()
        goals += of_x
    return cluster_bootstrap(hits, goals)
