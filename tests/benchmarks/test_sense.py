"""Figures of the harm sense's benchmark: who is compared with whom, and what is kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sense_figures import Direction, areas, share_over
from benchmarks.sense_prompts import HALVES, Row, key, obfuscated
from benchmarks.sense_signals import parted
from evaluation.statistics import auroc


def row(id: str, shape: str, source: str = "a", goal: str | None = None) -> Row:
    return Row(id, id, shape, source, goal or id, source)


def harmful(row: Row) -> bool:
    return row.harmful


def harmless(row: Row) -> bool:
    return not row.harmful


@pytest.fixture
def one() -> Direction:
    luck = np.random.default_rng(0)
    rows = [row(f"r{i}", ("bare", "plain")[i % 2], goal=f"g{i // 3}") for i in range(60)]
    scores = luck.normal(size=60) + np.array([r.harmful for r in rows])
    return Direction(rows, rows, {"h": scores}, {"h": scores})


def test_of_one_direction_the_area_is_the_auroc(one):
    scores, side = one.scores["h"], np.array([r.harmful for r in one.tested])
    found = areas([one], "h", harmless, harmful)
    assert found.estimate == pytest.approx(auroc(scores[~side], scores[side]).estimate)
    assert found.low < found.estimate < found.high and found.n == 60


def test_scores_of_two_fits_are_not_compared_with_each_other(one):
    shifted = Direction(one.fitted, one.tested, one.known, {"h": one.scores["h"] + 100})
    assert areas([one, shifted], "h", harmless, harmful).estimate == areas([one], "h", harmless, harmful).estimate


def test_what_was_not_read_counts_nowhere(one):
    scores = np.where(np.arange(60) < 30, one.scores["h"], np.nan)
    assert areas([Direction(one.fitted, one.tested, {}, {"h": scores})], "h", harmless, harmful).n == 30
    assert np.isnan(areas([one], "h", lambda r: r.shape == "wrapped", harmful).estimate)


def test_a_threshold_holds_each_class_to_its_share_on_the_half_that_was_fitted(one):
    limit = one.threshold("h", {"plain": 0.1, "wrapped": 0.1})
    plain = [x for x, r in zip(one.known["h"], one.fitted, strict=True) if r.shape == "plain"]
    assert np.mean(np.array(plain) > limit) <= 0.1
    assert share_over([one], "h", {"plain": 0.1}, harmless).estimate <= 0.1


def test_neither_sources_nor_goals_are_on_both_sides():
    rows = [row("1", "bare", "a", "g"), row("2", "bare", "b", "g"), row("3", "plain", "a"), row("4", "plain", "b")]
    fitted, tested = parted(rows, [0, 1, 0, 1], 0)
    assert fitted.tolist() == [2] and tested.tolist() == [1, 3]


def test_halves_share_no_source():
    assert not set(HALVES[0]) & set(HALVES[1])


def test_goals_are_the_same_but_for_case_and_signs():
    assert key("Write a  tutorial, on locks.") == key("write a tutorial on locks")


@pytest.mark.parametrize(
    ("attack", "said"),
    [("leetspeak", "B4k3 4 p13"), ("spaced", "B a k e   a   p i e"), ("disemvowel", "Bk  p")],
)
def test_a_harmless_request_is_obfuscated_as_the_collected_ones_are(attack, said):
    assert obfuscated(attack, "Bake a pie").endswith(said)
