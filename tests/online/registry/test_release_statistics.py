"""When a version on its way is worse than what serves: a test that may look after every response."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from evaluation.statistics import sequence_radius
from online.registry.release_statistics import LEAST, Comparison, Mean, Response
from online.settings.groups import ReleaseSettings

SETTINGS = ReleaseSettings()


def responses(
    luck: np.random.Generator, *, refused=0.01, length=20.0, entropy=0.3, halted=0.01, ttft=0.1
) -> Iterator[Response]:
    """Responses of one side, without end."""
    while True:
        yield Response(
            low=True,
            refused=bool(luck.random() < refused),
            length=max(1, int(luck.normal(length, 6))),
            entropy=float(luck.normal(entropy, 0.1)),
            halted=bool(luck.random() < halted),
            ttft=float(luck.gamma(2, ttft / 2)),
        )


def compared(seed: int, n: int, **new: float) -> tuple[int, str | None]:
    """After how many responses a side a version is found worse, and in what."""
    luck = np.random.default_rng(seed)
    comparison, sides = Comparison(SETTINGS), (responses(luck), responses(luck, **new))
    for count in range(1, n + 1):
        for side, mine in zip(sides, (False, True), strict=True):
            comparison.add(next(side), new=mine)
        if reason := comparison.worse():
            return count, reason
    return n, None


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        ({"refused": 0.5}, "refusals of low-band prompts"),
        ({"length": 45.0}, "length of answers"),
        ({"length": 8.0}, "length of answers"),
        ({"entropy": 1.2}, "entropy of answers"),
        ({"halted": 0.5}, "halts"),
        ({"ttft": 0.5}, "TTFT"),
    ],
)
def test_what_is_plainly_worse_is_found_within_a_hundred_responses(worse: dict, reason: str) -> None:
    for seed in range(5):
        count, found = compared(seed, 100, **worse)
        assert found is not None and found.startswith(reason) and "\n" not in found and count >= LEAST


def test_what_is_no_worse_is_hardly_ever_taken_back_however_often_one_looks() -> None:
    assert sum(compared(seed, 200)[1] is not None for seed in range(60)) <= 3


def test_at_the_margin_it_is_hardly_ever_taken_back_either() -> None:
    assert sum(compared(seed, 200, refused=0.04)[1] is not None for seed in range(60)) <= 3


def test_only_low_band_prompts_count_for_refusals() -> None:
    comparison = Comparison(SETTINGS)
    for new in (False, True):
        for low in (None, False, True):
            comparison.add(Response(low, new, 20, 0.3), new=new)
    assert comparison.compared == (1, 1) and not comparison.enough


def test_running_moments_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 100)
    mean = Mean(share=False)
    for value in values:
        mean.add(float(value))
    assert mean.mean == pytest.approx(values.mean()) and mean.variance == pytest.approx(values.var(ddof=1))
    few = Mean(share=True)
    for _ in range(30):
        few.add(0.0)
    assert few.variance == pytest.approx(1 / 32 * 31 / 32), "thirty that are all alike are no certainty"


def test_a_confidence_sequence_holds_at_every_look() -> None:
    """Means of standard normal draws, looked at after each of 30 to 2,000: outside in at most alpha of the runs."""
    luck, alpha = np.random.default_rng(1), 0.1
    n = np.arange(1, 2001)
    radius = np.array([sequence_radius(1.0, int(k), alpha, 200) for k in n])
    outside = 0
    for _ in range(300):
        means = luck.normal(size=2000).cumsum() / n
        outside += bool((np.abs(means) > radius)[29:].any())
    assert outside / 300 <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 300)
    ratios = radius * np.sqrt(n)
    assert 100 < n[30:][ratios[30:].argmin()] < 400, "narrowest, in standard errors, about where it was planned"
