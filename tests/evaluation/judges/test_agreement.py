"""Agreement against hand-computed values, published ones, and scikit-learn where it is installed."""

import math

import numpy as np
import pytest

from evaluation.judges import agreement


def kappa(table):
    """Of two judges, from a k x k table of how often each pair of verdicts occurs."""
    said = [pair for pair, count in np.ndenumerate(np.array(table)) for _ in range(int(count))]
    return agreement({"a": [one for one, _ in said], "b": [other for _, other in said]}, draws=1).pairs[0].kappa.estimate


def test_cohen_by_hand():
    """Yes/yes 20, yes/no 5, no/yes 10, no/no 15: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa = 0.4."""
    assert kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert kappa(np.eye(3) * 7) == 1
    assert kappa([[0, 5], [5, 0]]) == -1
    assert math.isnan(kappa([[9, 0], [0, 0]]))


def test_fleiss_matches_his_published_example():
    """Ten subjects, fourteen raters, five classes (Fleiss 1971 in the form that textbooks give): 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    votes = [np.repeat(range(5), row) for row in table]
    said = {f"judge {number}": [int(one[number]) for one in votes] for number in range(14)}
    found = agreement(said, draws=2).fleiss
    assert found is not None and found.estimate == pytest.approx(0.210, abs=5e-4)


def test_two_judges():
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = agreement({"rules": first, "rubric": second})
    (pair,) = found.pairs
    assert (pair.first, pair.second, found.fleiss, found.n) == ("rules", "rubric", None, 50)
    assert pair.share.estimate == 0.7 and pair.kappa.estimate == pytest.approx(0.4)
    assert 0.1 < pair.kappa.low < 0.4 < pair.kappa.high < 0.7
    assert found == agreement({"rules": first, "rubric": second}), "the same seed, the same interval"


def test_three_judges_have_pairs_and_one_kappa_of_all():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    said = {name: np.where(rng.random(300) < 0.8, truth, rng.integers(0, 3, 300)).tolist() for name in "abc"}
    found = agreement(said)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.fleiss is not None and found.fleiss.low < found.fleiss.estimate < found.fleiss.high
    mean = np.mean([pair.kappa.estimate for pair in found.pairs])
    assert found.fleiss.estimate == pytest.approx(mean, abs=0.02), "alike judges: close to the mean of the pairs"


def test_the_interval_covers_the_truth():
    """Judges that copy a fair coin with probability 0.6 agree beyond chance by exactly that; 19 of 20 intervals know it."""
    rng, inside = np.random.default_rng(2), 0
    for _ in range(200):
        first = rng.integers(0, 2, 150)
        second = np.where(rng.random(150) < 0.6, first, rng.integers(0, 2, 150))
        kappa = agreement({"a": first.tolist(), "b": second.tolist()}, draws=400).pairs[0].kappa
        inside += kappa.low <= 0.6 <= kappa.high
    assert 0.9 <= inside / 200 <= 0.99


def test_judges_who_say_one_thing_only_tell_nothing_of_each_other():
    kappa = agreement({"a": ["x"] * 5, "b": ["x"] * 5}).pairs[0].kappa
    assert math.isnan(kappa.estimate) and (kappa.low, kappa.high, kappa.n) == (-1, 1, 5)


def test_unequal_judges_are_refused():
    for verdicts in ({"a": ["x"]}, {"a": ["x"], "b": []}):
        with pytest.raises(ValueError, match="two judges or more"):
            agreement(verdicts)
    assert agreement({"a": [], "b": []}).n == 0


def test_cohen_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    for _ in range(20):
        first, second = rng.integers(0, 4, (2, 60))
        found = agreement({"a": first.tolist(), "b": second.tolist()}, draws=1).pairs[0].kappa.estimate
        assert found == pytest.approx(metrics.cohen_kappa_score(first, second))
