"""The study's own arithmetic: what is expected from masses, which threshold costs no more, what traffic is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from benchmarks.science.base import PART, cells, drawn, ruled
from benchmarks.science.chains import MEMORY, REFRESHES, SHARE, WINDOW, drifting
from benchmarks.science.results import Results
from benchmarks.science.rule import ALLOWED, BENIGN, equal_threshold, expected
from benchmarks.science.runs import SCARCITY, traffic
from evaluation import Outcome, load_suite

MASSES = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array)


@given(masses=MASSES, tau=st.floats(0.01, 1))
def test_expected_refusals_are_those_of_many_draws(masses: np.ndarray, tau: float) -> None:
    """Against drawing: over the threshold always, under it with the mass; greedily where refusing is the likelier."""
    luck = np.random.default_rng(0)
    coins = luck.random((4000, len(masses))) < masses
    sampled, greedy = expected(masses, tau)
    assert sampled == pytest.approx((coins | (masses > tau)).mean(), abs=0.05)
    assert greedy == np.mean([mass > tau or mass > 0.5 for mass in masses])


def test_the_threshold_of_equal_over_refusal_is_the_lowest_that_costs_no_class_more() -> None:
    prompts = load_suite(models.suite("validation"))
    luck, inside = np.random.default_rng(1), cells(prompts)
    base = luck.random(len(prompts)) ** 3
    masses = np.where(inside["seen"], luck.random(len(prompts)), base * 0.7)
    tau = equal_threshold(prompts, base, masses)

    def costs(threshold: float) -> float:
        rises = (
            ours - theirs
            for name in BENIGN
            for ours, theirs in zip(expected(masses[inside[name]], threshold), expected(base[inside[name]]), strict=True)
        )
        return max(rises)

    assert costs(tau) <= ALLOWED
    lower = [t for t in np.unique(masses) if t < tau]
    assert lower and costs(lower[-1]) > ALLOWED
    assert equal_threshold(prompts, base, np.ones(len(prompts))) == 1.0


def test_the_rule_refuses_in_both_modes_and_changes_nothing_else() -> None:
    prompts = load_suite(models.suite("test"))[::200]
    answers = {"sampled": [Outcome.COMPLIANCE] * len(drawn(prompts)), "greedy": [Outcome.COMPLIANCE] * len(prompts)}
    over = [at % 2 == 0 for at in range(len(prompts))]
    found = ruled(prompts, answers, over)
    assert [o is Outcome.REFUSAL for o in found["greedy"]] == over
    assert sum(o is Outcome.REFUSAL for o in found["sampled"]) == len(
        drawn([p for p, yes in zip(prompts, over, strict=True) if yes])
    )


def test_scarce_traffic_is_the_same_but_for_most_of_its_harm() -> None:
    every, scarce = traffic(), traffic(scarce=True)
    assert [p.id for p in every if p.kind != "harmful"] == [p.id for p in scarce if p.kind != "harmful"]
    assert sum(p.kind == "harmful" for p in scarce) / len(scarce) == pytest.approx(SCARCITY, abs=0.002)


def test_drifting_traffic_brings_families_in_turn_and_keeps_its_share_of_harm() -> None:
    known: set[str] = set()
    for number in range(1, REFRESHES + 1):
        window = drifting(number, seed=0)
        harmful = [p for p in window if p.kind == "harmful"]
        assert len(window) <= WINDOW and len(harmful) == pytest.approx(WINDOW * SHARE, abs=4)
        fresh = {p.family for p in harmful if p.family} - known
        assert len(fresh) <= 2
        known |= fresh
    assert len(known) > 10 and MEMORY < REFRESHES


def test_results_are_kept_at_once_and_found_again_by_what_they_were_made_from(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    bare = {"prompts": 8 * PART, "after": {"dsr": 1}, "part": {"prompts": 8, "after": {"dsr": 2}}}
    Results(path).keep("base", 0, 0, "k", bare, {"machine": "m"})
    results = Results(path)
    results.keep("random", 0, 3, "key", {"prompts": 8, "after": {"dsr": 3}}, {})
    again = Results(path)
    assert again.done(["random"], 0, 3, "key") and not again.done(["random"], 0, 3, "other")
    assert not again.done(["random", "mass"], 0, 3, "key")
    assert again.of(0, "random")[0]["before"] == {"dsr": 2} and again.of(0, "base")[0]["before"] == {"dsr": 1}
