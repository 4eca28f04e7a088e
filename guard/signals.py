"""Signals: figures of a response so far, made of its own probabilities in constant memory.

Every signal is a number that is meant to rise with risk, known after each token. Which of them a model's rule rests on is
found at calibration (docs/evidence/signals.md says what each adds); a rule never rests on entropy alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken: the transport resolves 6e-5."""

NAMES = ("first", "mass", "second_look", "along", "mean", "max", "slope", "harm")


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), with p kept within CLIP of the ends; NaN stays NaN."""
    kept = min(max(probability, CLIP), 1 - CLIP)
    return math.log(kept / (1 - kept)) if probability == probability else math.nan


def probability(odds: float) -> float:
    """1 / (1 + e^-x) of log-odds x, however large."""
    return (1 + math.tanh(odds / 2)) / 2


@dataclass(slots=True)
class Signals:
    """Running values over the tokens seen; feed every token once, with the refusal mass measured at it.

    first: log-odds of the refusal mass at the first token, before anything is said;
    mass: the same at the decision (the deepest node of the opening tree that was reached);
    second_look: how much those log-odds rise behind a safety reminder, NaN until it was asked for;
    along: log-odds of the largest mass of opening a refusal after the decision;
    mean, max: of the token entropies, in nats; slope: of their least-squares line, in nats a token;
    harm: log-odds that the request is harmful, by the harm sense (guard/sense.py); NaN where none
    could be read.
    """

    first: float = math.nan
    mass: float = math.nan
    second_look: float = math.nan
    along: float = math.nan
    mean: float = math.nan
    max: float = math.nan
    slope: float = 0.0
    harm: float = math.nan
    count: int = 0
    _sum: float = 0.0
    _weighted: float = 0.0

    def step(self, entropy: float, mass: float, *, decided: bool) -> None:
        """Take in one token: its entropy in nats, the refusal mass at it, and whether the decision lay before it."""
        if mass == mass:
            odds = log_odds(mass)
            if not self.count:
                self.first = odds
            if not decided:
                self.mass = odds
            elif not self.along >= odds:
                self.along = odds
        at, self.count = self.count, self.count + 1
        self._sum += entropy
        self._weighted += at * entropy
        n = self.count
        self.mean = self._sum / n
        if n == 1:
            self.max = entropy
            return
        self.max = entropy if entropy > self.max else self.max
        self.slope = (self._weighted - self._sum * (n - 1) / 2) * 12 / (n * (n * n - 1))

    def value(self, name: str) -> float:
        """A signal by name; raises AttributeError for a name not in NAMES."""
        return float(getattr(self, name))
