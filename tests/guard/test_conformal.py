"""Promises: the threshold, the confidence, and that they hold on fresh draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from guard.conformal import Promise, binomial_cdf, promise, strictest


def test_without_an_allowed_exceedance_the_largest_score_is_the_threshold():
    made = promise(((i, float(i)) for i in range(300)), 0.01, 0.95)
    assert made == Promise(299.0, 0.01, pytest.approx(1 - 0.99**300), 300)


def test_more_clusters_allow_a_lower_threshold():
    """At n = 1000 and 1%: 95% confidence allows the six largest to lie above, which are the ranks Wilks' bound gives."""
    made = promise(((i, float(i)) for i in range(1000)), 0.01, 0.95)
    above = int(999 - made.threshold)
    assert 1 - binomial_cdf(above, 1000, 0.01) >= 0.95 > 1 - binomial_cdf(above + 1, 1000, 0.01)


def test_a_cluster_counts_once_with_its_largest_score():
    made = promise([("a", 1.0), ("a", 9.0), ("b", 2.0)], 0.5, 0.5)
    assert made.clusters == 2 and made.threshold == 9.0


def test_too_few_clusters_say_the_confidence_they_have():
    assert promise(((i, 0.0) for i in range(50)), 0.01, 0.95).confidence == pytest.approx(1 - 0.99**50)
    assert promise([], 0.01, 0.9) == Promise(math.inf, 0.01, 0.0, 0)


def test_the_promise_holds_as_often_as_it_says():
    """Over 400 calibrations of 600 clusters at 2%: the true exceedance is within the share at least 90% of the time."""
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(400):
        made = promise(enumerate(rng.normal(size=600)), 0.02, 0.9)
        kept += 0.5 * math.erfc(made.threshold / math.sqrt(2)) <= 0.02
    assert kept >= 345  # 90% of 400 less three deviations


@pytest.mark.parametrize(("share", "confidence"), [(0, 0.9), (1, 0.9), (0.01, 0), (0.01, 1)])
def test_promises_need_shares(share, confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        promise([(0, 0.0)], share, confidence)


def test_the_strictest_class_sets_the_threshold():
    assert strictest({"a": Promise(1.0, 0.1, 0.9, 5), "b": Promise(3.0, 0.1, 0.9, 5)}) == 3.0
    assert strictest({}) == math.inf
