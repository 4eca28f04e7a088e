"""The decision rule: a weighted sum of intrinsic signals against a threshold that holds for benign traffic.

    opening    at the decision, before anything is delivered    s = log-odds of the first token's refusal mass
               and wherever the answer begins anew              s = the same, of the token there
    running    after every later token                           s = a sum of other signals, where calibration gave it one

A response is touched when its score is above the threshold and it has not opened as a refusal. Weights are fitted and
thresholds set at calibration (`sirl calibrate`); here they are only applied. Which signals are worth a weight is
measured in docs/evidence/signals.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from guard.conformal import Promise
from guard.signals import NAMES, Signals, log_odds


@dataclass(frozen=True, slots=True)
class Score:
    """bias + sum of weight x signal; a signal that was not measured makes the score NaN."""

    weights: Mapping[str, float]
    bias: float = 0.0

    def __post_init__(self) -> None:
        if unknown := set(self.weights) - set(NAMES):
            raise ValueError(f"{', '.join(sorted(unknown))} is no signal: the known ones are {', '.join(NAMES)}")

    def of(self, signals: Signals) -> float:
        return self.bias + math.fsum(weight * signals.value(name) for name, weight in self.weights.items())


def fit_score(names: Sequence[str], risky: ArrayLike, benign: ArrayLike, *, penalty: float = 1.0) -> Score:
    """Logistic regression of risky against benign responses by Newton's method, both sides weighing the same.

    risky, benign: (responses, signals) in the order of `names`; penalty: L2, on the weights of standardised signals.
    """
    sides = np.asarray(risky, float), np.asarray(benign, float)
    x = np.concatenate(sides)
    y = np.concatenate([np.ones(len(sides[0])), np.zeros(len(sides[1]))])
    share = np.where(y == 1, 0.5 / len(sides[0]), 0.5 / len(sides[1])) * len(y)
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    z = np.column_stack([(x - centre) / scale, np.ones(len(x))])
    ridge = penalty * np.diag([1.0] * len(names) + [0.0])
    w = np.zeros(z.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        gradient = z.T @ (share * (p - y)) + ridge @ w
        step = np.linalg.solve((z * (share * p * (1 - p))[:, None]).T @ z + ridge, gradient)
        w -= step
        if np.abs(step).max() < 1e-10:
            break
    weights = w[:-1] / scale
    return Score(dict(zip(names, map(float, weights), strict=True)), float(w[-1] - weights @ centre))


OPENING_MASS = Score({"first": 1.0})
"""The score the signals study left: log-odds of the refusal mass at the first token, alone."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which responses are touched: the score of the opening, and where calibration found one that pays, a running one.

    threshold, running_threshold: a score above it is touched; promises: what they hold for, by class of benign prompts.
    """

    opening: Score = OPENING_MASS
    threshold: float = math.inf
    running: Score | None = None
    running_threshold: float = math.inf
    promises: Mapping[str, Promise] = field(default_factory=dict)

    def touches_opening(self, signals: Signals) -> bool:
        """At the decision; raises ArithmeticError where a signal it rests on was not measured."""
        return measured(self.opening.of(signals)) > self.threshold

    def touches_anew(self, signals: Signals, mass: float) -> bool:
        """Where the answer begins anew, with this refusal mass (a probability); raises ArithmeticError where it is NaN."""
        odds = log_odds(mass)
        return measured(self.opening.of(replace(signals, first=odds, mass=odds))) > self.threshold

    def touches_running(self, signals: Signals) -> bool:
        """After a later token; raises ArithmeticError where a signal it rests on was not measured."""
        return self.running is not None and measured(self.running.of(signals)) > self.running_threshold

    def at(self, mass: float) -> Rule:
        """This rule with a threshold of the operator's or client's own, a refusal mass (probability)."""
        return replace(self, opening=OPENING_MASS, threshold=log_odds(mass) if mass > 0 else -math.inf, promises={})

    def to_json(self) -> dict[str, object]:
        running = None if self.running is None else asdict(self.running)
        return {
            "opening": asdict(self.opening),
            "threshold": number(self.threshold),
            "running": running,
            "running_threshold": number(self.running_threshold),
            "promises": {name: {**asdict(p), "threshold": number(p.threshold)} for name, p in self.promises.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        promises = {name: Promise(**{**p, "threshold": limit(p["threshold"])}) for name, p in data["promises"].items()}
        running = None if data["running"] is None else Score(**data["running"])
        thresholds = limit(data["threshold"]), limit(data["running_threshold"])
        return cls(Score(**data["opening"]), thresholds[0], running, thresholds[1], promises)


def measured(score: float) -> float:
    """The score, or ArithmeticError: a rule that is fed NaN has not decided, and whoever asked must know."""
    if math.isnan(score):
        raise ArithmeticError("a signal that the rule rests on was not measured")
    return score


def number(value: float) -> float | None:
    """An infinite threshold touches nothing; JSON has no word for it."""
    return value if math.isfinite(value) else None


def limit(value: float | None) -> float:
    return math.inf if value is None else float(value)
