"""A linear read-out of streams: weighted ridge regression in closed form, chosen by cross-validation over whole sources.

Prompts of one source (a data set, or a family of attacks) are alike in ways that say nothing of harm. So a source is left
out whole, on both sides, and with it every prompt that shares a goal with it: what is chosen so carries over to sources that
were not fitted. Streams are standardised, by the prompts that are fitted on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.stats import rankdata

FOLDS = 5
PENALTIES = tuple(10.0 ** (-k / 2) for k in range(-1, 8))
"""Of ridge, in units of the streams' whole variance."""
TOGETHER = 4
"""Layers that are read together at most."""
GAIN = 0.005
"""Gain of the criterion (a mean of AUROCs) for which more layers are read."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Prompts to fit on. streams: (prompts, layers, hidden), float32; harmful: (prompts,); cells: the kind of each prompt,
    those of one side weighing the same; sources: left out whole; goals: never on both sides of a cut."""

    streams: NDArray[np.float32]
    harmful: NDArray[np.bool_]
    cells: Sequence[str]
    sources: Sequence[str]
    goals: Sequence[str]

    def __len__(self) -> int:
        return len(self.harmful)

    def part(self, chosen: NDArray[np.bool_]) -> Examples:
        """Those that are chosen, (prompts,)."""
        index = np.flatnonzero(chosen)
        texts = ([kept[i] for i in index] for kept in (self.cells, self.sources, self.goals))
        return Examples(self.streams[index], self.harmful[index], *texts)

    def shares(self) -> Numbers:
        """Weight of each prompt: both sides weigh one half, and the cells of a side the same."""
        counts = Counter(zip(self.harmful.tolist(), self.cells, strict=True))
        sides = Counter(side for side, _ in counts)
        each = [
            1 / (2 * sides[side] * counts[side, cell]) for side, cell in zip(self.harmful.tolist(), self.cells, strict=True)
        ]
        return np.array(each)

    def folds(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """(fitted on, left out) of each part, (prompts,) both; none where every cut would leave one side empty."""
        names, which = np.unique(np.array(self.sources), return_inverse=True)
        sides = np.stack([np.bincount(which, of_side, len(names)) for of_side in (~self.harmful, self.harmful)], 1)
        load, place = np.zeros((FOLDS, 2)), np.zeros(len(names), dtype=np.int64)
        for source in np.argsort(-sides.sum(1), kind="stable"):  # the largest first, each to where it unbalances least
            place[source] = np.argmin(((load + sides[source]) ** 2).sum(1))
            load[place[source]] += sides[source]
        folds = place[which]
        goals = np.array(self.goals)
        for fold in range(FOLDS):
            out = folds == fold
            fitted = ~out & ~np.isin(goals, goals[out])
            if out.any() and 0 < self.harmful[fitted].sum() < fitted.sum():
                yield fitted, out


@dataclass(frozen=True, slots=True, eq=False)
class ReadOut:
    """f = bias + sum_l weights[l] . x_l of streams at some of the layers. layers: their places among those of the examples;
    weights: (layers, hidden)."""

    layers: tuple[int, ...]
    weights: Numbers
    bias: float

    def of(self, streams: NDArray[np.float32]) -> Numbers:
        """(prompts, layers, hidden) -> (prompts,)."""
        return streams[:, list(self.layers)].reshape(len(streams), -1).astype(float) @ self.weights.ravel() + self.bias


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What cross-validation chose. scores: of each prompt by a read-out that its source and goal had no part in, NaN where
    there was none; criterion: see :func:`criterion`."""

    layers: tuple[int, ...]
    penalty: float
    scores: Numbers
    criterion: float


def fit(examples: Examples, layers: Sequence[int], penalties: Sequence[float]) -> list[ReadOut]:
    """Ridge regression of harmful (1) against harmless (-1) for each penalty, in the smaller of its two forms."""
    x = examples.streams[:, list(layers)].reshape(len(examples), -1).astype(float)
    share = examples.shares()
    centre = share @ x
    scale = np.sqrt(share @ (x - centre) ** 2) * np.sqrt(x.shape[1])
    scale[scale < 1e-9 * scale.max(initial=1e-9)] = np.inf  # what does not vary says nothing
    root = np.sqrt(share)
    z = (x - centre) / scale * root[:, None]
    y = np.where(examples.harmful, 1.0, -1.0) * root
    dual = z.shape[0] <= z.shape[1]
    values, vectors = eigh(z @ z.T if dual else z.T @ z)
    seen = vectors.T @ (y if dual else z.T @ y)
    found = []
    for penalty in penalties:
        solved = vectors @ (seen / (np.maximum(values, 0) + penalty))
        weights = (z.T @ solved if dual else solved) / scale
        found.append(ReadOut(tuple(layers), weights.reshape(len(layers), -1), float(-weights @ centre)))
    return found


def criterion(scores: Numbers, examples: Examples) -> float:
    """Mean AUROC over all pairs of a harmful and a harmless cell, so that neither a wrapper nor a frightening word counts as
    evidence; NaN scores are left out."""
    known = np.isfinite(scores)
    cells = np.array(examples.cells)
    sides = [
        [found for cell in sorted(set(cells[side])) if len(found := scores[side & (cells == cell) & known])]
        for side in (examples.harmful, ~examples.harmful)
    ]
    areas = [area(low, high) for high in sides[0] for low in sides[1]]
    return float(np.mean(areas)) if areas else 0.5


def area(low: Numbers, high: Numbers) -> float:
    """P(low < high) + P(low = high) / 2."""
    ranks = rankdata(np.concatenate([low, high]))[len(low) :].sum()
    return float((ranks - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def validated(examples: Examples, layers: Sequence[int], penalties: Sequence[float] = PENALTIES) -> Choice:
    """The best penalty for these layers, and each prompt's score by read-outs that were not fitted on its source."""
    scores = np.full((len(penalties), len(examples)), np.nan)
    for fitted, out in examples.folds():
        for row, read_out in enumerate(fit(examples.part(fitted), layers, penalties)):
            scores[row, out] = read_out.of(examples.streams[out])
    found = [criterion(row, examples) for row in scores]
    best = int(np.argmax(found))
    return Choice(tuple(layers), penalties[best], scores[best], found[best])


def spreads(count: int) -> list[tuple[int, ...]]:
    """Sets of evenly spaced layers of so many: the middle one, first and last, and so on up to TOGETHER."""
    wide = [tuple(round(x) for x in np.linspace(0, count - 1, n)) for n in range(2, min(TOGETHER, count) + 1)]
    return [((count - 1) // 2,), *wide]


def chosen(examples: Examples) -> Choice:
    """The fewest evenly spread layers whose criterion is within GAIN of the best.

    Layers are not picked one by one: with some dozen sources that fits the choice to them, and on other sources costs .01 to
    .03 of AUROC (docs/evidence/sense.md).
    """
    found = [validated(examples, layers) for layers in spreads(examples.streams.shape[1])]
    best = max(choice.criterion for choice in found)
    return next(choice for choice in found if choice.criterion >= best - GAIN)
