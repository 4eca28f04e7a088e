"""Learned openings: those with which a model begins its refusals, as deep as its samples call for, and how well they tell
refusals from answers that they were not learned from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.statistics import Figure, wilson
from guard.calibration import CalibrationError
from guard.openings import DEPTH, Openings, Tokens
from online.settings.groups import CalibrateSettings

FOLDS = 5
"""Parts of the samples, each of which is told apart by what the others teach (cross-validation)."""
FEW = 40
"""Prompts that were refused, or answered, below which a share of them is no reason to refuse a calibration: an opening that
begins two or three refusals is then lost with one part of them."""
GAIN = 0.01
"""Recall, less false rate, for which a tree is made deeper."""


@dataclass(frozen=True, slots=True)
class LabelledSamples:
    """Responses as token ids, which of them refuse, and what each answers: its prompt's cluster, which is never parted."""

    responses: Sequence[Tokens]
    refused: NDArray[np.bool_]
    sources: Sequence[str]

    def part(self, chosen: NDArray[np.bool_]) -> LabelledSamples:
        """Those that are chosen, (responses,)."""
        index = np.flatnonzero(chosen)
        return LabelledSamples([self.responses[i] for i in index], self.refused[index], [self.sources[i] for i in index])

    def folds(self) -> NDArray[np.int64]:
        """The part of each, 0 to FOLDS - 1, by the order of the digests of what they answer: the same in every run."""
        ordered = sorted(set(self.sources), key=lambda source: hashlib.sha256(source.encode()).digest())
        place = {source: at % FOLDS for at, source in enumerate(ordered)}
        return np.array([place[source] for source in self.sources], dtype=np.int64)

    def openings(self) -> Openings:
        """The openings of these refusals, of every depth."""
        refusals, others = (self.part(side) for side in (self.refused, ~self.refused))
        return Openings.learn(refusals.responses, others.responses, sources=refusals.sources)


@dataclass(frozen=True, slots=True)
class LearnedOpenings:
    """Openings, with the shares of refusals (recall) and of other responses (false rate) that open with one. The shares are
    of samples from which neither the openings nor their depth were learned; an interval counts sources, not samples."""

    openings: Openings
    recall: Figure
    false: Figure

    def check(self, settings: CalibrateSettings) -> None:
        """Raises CalibrationError where the openings miss too many refusals, or catch too many answers, for it to be
        chance."""
        if self.recall.n >= FEW and self.recall.high < settings.openings_recall / 100:
            raise CalibrationError(
                f"Openings recall {self.recall.estimate:.0%} of the refusals that they were not learned from, and "
                f"{settings.openings_recall:g}% are asked: give more harmful prompts that the model refuses, or lower "
                "calibrate.openings_recall."
            )
        if self.false.n >= FEW and self.false.low > settings.openings_false / 100:
            raise CalibrationError(
                f"Openings begin {self.false.estimate:.0%} of the other responses too, and {settings.openings_false:g}% are "
                "allowed: give more harmless prompts, or a judge that reads these responses as refusals, or raise "
                "calibrate.openings_false."
            )


def learn_openings(samples: LabelledSamples, settings: CalibrateSettings) -> LearnedOpenings:
    """Openings learned from all samples; recall and false rate by cross-validation, in which each part's depth is chosen
    within the others."""
    learned = _to_depth(samples.openings(), _depth(samples, settings))
    folds, matched = samples.folds(), np.zeros(len(samples.responses), dtype=bool)
    for fold in range(FOLDS):
        others = samples.part(folds != fold)
        known = _to_depth(others.openings(), _depth(others, settings))
        for at in np.flatnonzero(folds == fold):
            matched[at] = known.matched(samples.responses[at])
    recall, false = (_share(samples, matched, side) for side in (samples.refused, ~samples.refused))
    return LearnedOpenings(learned, recall, false)


def _depth(samples: LabelledSamples, settings: CalibrateSettings) -> int:
    """The depth to learn to, by cross-validation: of those that hold recall and false rate, or of all where none does, the
    smallest whose recall minus false rate is within GAIN of the best."""
    if len(set(samples.refused.tolist())) < 2:
        return 1
    folds, lengths = samples.folds(), np.zeros(len(samples.responses))
    for fold in range(FOLDS):
        known = samples.part(folds != fold).openings()
        for at in np.flatnonzero(folds == fold):
            lengths[at] = _length(known, samples.responses[at])
    shares = [
        [_share(samples, lengths <= depth, side) for side in (samples.refused, ~samples.refused)]
        for depth in range(1, DEPTH + 1)
    ]
    gains = [recall.estimate - false.estimate for recall, false in shares]
    held = [
        at
        for at, (recall, false) in enumerate(shares)
        if recall.estimate >= settings.openings_recall / 100 and false.estimate <= settings.openings_false / 100
    ] or list(range(DEPTH))
    best = max(gains[at] for at in held)
    return 1 + next(at for at in held if gains[at] >= best - GAIN)


def _length(openings: Openings, response: Sequence[int]) -> float:
    """Tokens of the opening that a response begins with; infinite where there is none."""
    return next((n for n in range(1, openings.depth + 1) if openings.matched(response[:n])), math.inf)


def _to_depth(openings: Openings, depth: int) -> Openings:
    return Openings(tuple(s for s in openings.sequences if len(s) <= depth))


def _share(samples: LabelledSamples, hits: NDArray[np.bool_], side: NDArray[np.bool_]) -> Figure:
    """The share of hits on one side of the samples."""
    sources: set[Hashable] = {samples.sources[at] for at in np.flatnonzero(side)}
    return wilson(float(hits[side].mean()) * len(sources) if sources else 0.0, len(sources))
