"""The decision rule: a weighted sum of intrinsic signals against a threshold that holds for benign traffic.

    opening    at the decision, before anything is delivered    s = log-odds of the first token's refusal mass
               and wherever the answer begins anew              s = the same, of the token there
    sensed     at the same places, in its stead,                 s = a sum of these log-odds and h
               where the harm sense was read
    running    after every later token                           s = a sum of other signals, where calibration gave it one

A response is touched when its score is above the threshold and it has not opened as a refusal. Weights are fitted and
thresholds set at calibration (`sirl calibrate`); here they are only applied. Which signals are worth a weight is
measured in docs/evidence/signals.md, and the harm sense h in docs/evidence/sense.md.
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

    threshold, sensed_threshold, running_threshold: a score above it is touched; promises, sensed_promises: what the first
    two hold for, by class of benign prompts; sensed: the score where h was read, None without a harm sense.
    """

    opening: Score = OPENING_MASS
    threshold: float = math.inf
    running: Score | None = None
    running_threshold: float = math.inf
    promises: Mapping[str, Promise] = field(default_factory=dict)
    sensed: Score | None = None
    sensed_threshold: float = math.inf
    sensed_promises: Mapping[str, Promise] = field(default_factory=dict)

    def touches_opening(self, signals: Signals) -> bool:
        """At the decision; raises ArithmeticError where a signal it rests on was not measured. h may be absent: the opening
        alone decides then."""
        if self.sensed is not None and not math.isnan(signals.harm):
            return measured(self.sensed.of(signals)) > self.sensed_threshold
        return measured(self.opening.of(signals)) > self.threshold

    def touches_anew(self, signals: Signals, mass: float, *, refused: bool = False) -> bool:
        """Where the answer begins anew, with this refusal mass (a probability); raises ArithmeticError where it is NaN.
        refused: behind a refusal, where the mass alone decides, for a harmful request was answered well."""
        odds = log_odds(mass)
        return self.touches_opening(replace(signals, first=odds, mass=odds, harm=math.nan if refused else signals.harm))

    def touches_running(self, signals: Signals) -> bool:
        """After a later token; raises ArithmeticError where a signal it rests on was not measured."""
        return self.running is not None and measured(self.running.of(signals)) > self.running_threshold

    def at(self, mass: float) -> Rule:
        """This rule with a threshold of the operator's or client's own, a refusal mass (probability)."""
        return replace(
            self,
            opening=OPENING_MASS,
            threshold=log_odds(mass) if mass > 0 else -math.inf,
            promises={},
            sensed=None,
            sensed_threshold=math.inf,
            sensed_promises={},
        )

    def to_json(self) -> dict[str, object]:
        running = None if self.running is None else asdict(self.running)
        found: dict[str, object] = {
            "opening": asdict(self.opening),
            "threshold": number(self.threshold),
            "running": running,
            "running_threshold": number(self.running_threshold),
            "promises": _told(self.promises),
        }
        if self.sensed is not None:
            found["sensed"] = asdict(self.sensed)
            found["sensed_threshold"], found["sensed_promises"] = number(self.sensed_threshold), _told(self.sensed_promises)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        scores = {name: None if data.get(name) is None else Score(**data[name]) for name in ("running", "sensed")}
        return cls(
            opening=Score(**data["opening"]),
            threshold=limit(data["threshold"]),
            running=scores["running"],
            running_threshold=limit(data["running_threshold"]),
            promises=_promises(data["promises"]),
            sensed=scores["sensed"],
            sensed_threshold=limit(data.get("sensed_threshold")),
            sensed_promises=_promises(data.get("sensed_promises", {})),
        )


def _told(promises: Mapping[str, Promise]) -> dict[str, object]:
    return {name: {**asdict(p), "threshold": number(p.threshold)} for name, p in promises.items()}


def _promises(data: Mapping[str, Any]) -> dict[str, Promise]:
    return {name: Promise(**{**p, "threshold": limit(p["threshold"])}) for name, p in data.items()}


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
