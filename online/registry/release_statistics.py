"""Release statistics: two versions compared on live traffic, by a test that may look after every response."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from evaluation.statistics import sequence_radius
from online.settings.groups import ReleaseSettings

LEAST = 30
"""Responses a side before anything is said of a mean: the test's own guarantee is one for many."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is compared of one response.

    low: whether the frozen base does not hesitate on its prompt (None: not looked at); refused: whether it opened as a
    refusal; length in tokens; entropy: mean over its tokens, nats; halted: whether the guard touched it; ttft in seconds,
    where it was streamed.
    """

    low: bool | None
    refused: bool
    length: int
    entropy: float
    halted: bool = False
    ttft: float | None = None


@dataclass(slots=True)
class Mean:
    """A running mean and its variance (Welford 1962)."""

    share: bool
    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.squares += step * (value - self.mean)

    @property
    def variance(self) -> float:
        """Of a share as if one more response had been either way: a few that are all alike are no certainty."""
        if self.share:
            smooth = (self.mean * self.n + 1) / (self.n + 2)
            return smooth * (1 - smooth)
        return self.squares / max(1, self.n - 1)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that must not get worse: what it is of a response (None: nothing), and how much it may change of a mean that
    serves; either: downwards as well."""

    name: str
    of: Callable[[Response], float | None]
    allowed: Callable[[ReleaseSettings, float], float]
    shown: str
    share: bool = False
    either: bool = False


QUANTITIES = (
    Quantity(
        "refusals of low-band prompts",
        lambda one: float(one.refused) if one.low else None,
        lambda settings, mean: settings.refusals / 100,
        ".1%",
        share=True,
    ),
    Quantity(
        "length of answers (tokens)",
        lambda one: float(one.length) if one.low else None,
        lambda settings, mean: settings.length / 100 * mean,
        ".1f",
        either=True,
    ),
    Quantity(
        "entropy of answers (nats)",
        lambda one: one.entropy if one.low and math.isfinite(one.entropy) else None,
        lambda settings, mean: settings.entropy,
        ".2f",
    ),
    Quantity(
        "halts",
        lambda one: float(one.halted),
        lambda settings, mean: settings.halts / 100,
        ".1%",
        share=True,
    ),
    Quantity("TTFT (s)", lambda one: one.ttft, lambda settings, mean: settings.ttft / 100 * mean, ".3f"),
)


@dataclass(slots=True)
class Comparison:
    """Responses of the version on its way (`new`) beside those of what serves."""

    settings: ReleaseSettings
    serving: tuple[Mean, ...] = field(default_factory=lambda: tuple(Mean(q.share) for q in QUANTITIES))
    new: tuple[Mean, ...] = field(default_factory=lambda: tuple(Mean(q.share) for q in QUANTITIES))

    def add(self, response: Response, *, new: bool) -> None:
        """One more response, of the one or the other."""
        for quantity, mean in zip(QUANTITIES, self.new if new else self.serving, strict=True):
            if (value := quantity.of(response)) is not None:
                mean.add(value)

    @property
    def compared(self) -> tuple[int, int]:
        """Responses to low-band prompts: of what serves, and of the version on its way."""
        return self.serving[0].n, self.new[0].n

    @property
    def enough(self) -> bool:
        """Whether there are as many as a stage asks for."""
        return min(self.compared) >= self.settings.responses

    def worse(self) -> str | None:
        """In what the version is surely worse by more than is allowed, in a sentence; None as long as it is in nothing.

        Over all quantities, sides and looks together a version that is no worse is found so with probability alpha at most.
        """
        alpha = self.settings.alpha / len(QUANTITIES)
        for quantity, old, new in zip(QUANTITIES, self.serving, self.new, strict=True):
            if min(old.n, new.n) < LEAST:
                continue
            radius = sum(sequence_radius(m.variance, m.n, alpha / 2, self.settings.responses) for m in (old, new))
            allowed, change = quantity.allowed(self.settings, old.mean), new.mean - old.mean
            if (abs(change) if quantity.either else change) - radius > allowed:
                return (
                    f"{quantity.name} went from {old.mean:{quantity.shown}} to {new.mean:{quantity.shown}} (surely by more "
                    f"than the {allowed:{quantity.shown}} that is allowed, after {old.n} and {new.n} responses)"
                )
        return None
