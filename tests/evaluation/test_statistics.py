"""Statistics against closed forms, published values and brute force."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from evaluation import statistics as stats


def test_wilson_matches_published_values():
    figure = stats.wilson(15, 20)  # Newcombe 1998, table I style: 0.531, 0.888
    assert figure.estimate == 0.75 and figure.n == 20
    assert (figure.low, figure.high) == pytest.approx((0.5313, 0.8881), abs=5e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (0, 0), (3, 7)])
def test_wilson_ends_solve_the_score_equation(successes, n):
    figure = stats.wilson(successes, n)
    if n == 0:
        assert (math.isnan(figure.estimate), figure.low, figure.high) == (True, 0, 1)
        return
    for end in (figure.low, figure.high):
        if 0 < end < 1:
            assert abs(successes / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)
    assert 0 <= figure.low <= figure.estimate <= figure.high <= 1


def test_wilson_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="3 successes of 2"):
        stats.wilson(3, 2)


def test_auroc_equals_the_count_over_all_pairs():
    rng = np.random.default_rng(1)
    low, high = rng.integers(0, 6, 40), rng.integers(2, 9, 30)
    pairs = [(x < y) + 0.5 * (x == y) for x, y in itertools.product(low, high)]
    figure = stats.auroc(low, high)
    assert figure.estimate == pytest.approx(np.mean(pairs)) and figure.n == 70
    assert 0 < figure.low < figure.estimate < figure.high < 1


def test_auroc_interval_covers_the_truth():
    truth = stats._NORMAL.cdf(1 / math.sqrt(2))
    rng = np.random.default_rng(2)
    figures = [stats.auroc(rng.normal(0, 1, 60), rng.normal(1, 1, 50)) for _ in range(400)]
    assert 0.92 <= np.mean([figure.low <= truth <= figure.high for figure in figures]) <= 0.98


def test_auroc_of_clusters_covers_the_truth_where_the_one_without_them_does_not():
    """Observations in families of four on either side, which share two thirds of their variance; and one family in both."""
    truth = stats._NORMAL.cdf(1 / math.sqrt(2))
    rng, known, unknown = np.random.default_rng(2), [], []
    for _ in range(400):
        low, high = (
            rng.normal(0, math.sqrt(2 / 3), n).repeat(4) + rng.normal(shift, math.sqrt(1 / 3), 4 * n)
            for n, shift in ((20, 0), (15, 1))
        )
        ids = [f"a{at // 4}" for at in range(80)], [f"b{at // 4}" for at in range(60)]
        known.append(stats.auroc(low, high, clusters=ids))
        unknown.append(stats.auroc(low, high))
    covered = [np.mean([one.low <= truth <= one.high for one in some]) for some in (known, unknown)]
    assert 0.91 <= covered[0] <= 0.98 and covered[1] < 0.85, covered
    alone = stats.auroc(low, high, clusters=([*range(80)], [*range(80, 140)]))
    assert (alone.low, alone.high) == pytest.approx((unknown[-1].low, unknown[-1].high))
    together = stats.auroc(low, high, clusters=([*range(80)], [*range(60)]))
    shared = rng.normal(0, 1, 50)
    paired = stats.auroc(shared, shared + 0.5, clusters=([*range(50)], [*range(50)]))
    assert paired.high - paired.low < 0.6 * np.subtract(
        *reversed(list(stats.auroc(shared, shared + 0.5).to_dict().values())[1:3])
    )
    assert together.estimate == alone.estimate and stats.auroc(low, high, clusters=(["a"] * 80, ids[1])).low == 0


def test_auroc_at_its_ends_and_without_data():
    assert stats.auroc([1, 2, 3], [4, 5, 6]).estimate == 1
    assert stats.auroc([1, 2, 3], [4, 5, 6]).low == pytest.approx(stats.wilson(3, 3).low)
    assert stats.auroc([4, 5], [1, 2]).estimate == 0
    assert math.isnan(stats.auroc([], [1.0]).estimate)
    with pytest.raises(ValueError, match="finite"):
        stats.auroc([math.nan], [1.0])


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        (0.95, 1, 6.3138),
        (0.975, 2, 4.3027),
        (0.95, 5, 2.0150),
        (0.95, 10, 1.8125),
        (0.975, 30, 2.0423),
        (0.05, 10, -1.8125),
        (0.95, 5000, 1.6452),
    ],
)
def test_bounds_are_the_t_quantiles_of_the_tables(probability, degrees, expected):
    after = np.random.default_rng(degrees).normal(size=degrees + 1)
    bound = stats.paired_bound(np.zeros(degrees + 1), after, probability)
    error = after.std(ddof=1) / math.sqrt(degrees + 1)
    assert (bound.upper - bound.mean) / error == pytest.approx(expected, abs=1e-4)
    assert (bound.mean - bound.lower) / error == pytest.approx(expected, abs=1e-4)


def test_paired_bound_is_the_t_bound():
    before, after = np.zeros(6), np.array([1.0, 2, 3, 4, 5, 6])
    bound = stats.paired_bound(before, after)
    half = 2.0150 * after.std(ddof=1) / math.sqrt(6)
    assert (bound.mean, bound.lower, bound.upper) == pytest.approx((3.5, 3.5 - half, 3.5 + half), abs=1e-3)
    assert bound.error == pytest.approx(after.std(ddof=1) / math.sqrt(6))


def test_clusters_of_one_change_nothing_and_repeated_pairs_add_nothing():
    rng = np.random.default_rng(3)
    after = rng.normal(size=50)
    plain = stats.paired_bound(np.zeros(50), after)
    single = stats.paired_bound(np.zeros(50), after, clusters=list(range(50)))
    repeated = stats.paired_bound(np.zeros(200), np.repeat(after, 4), clusters=list(np.repeat(np.arange(50), 4)))
    assert single.upper == pytest.approx(plain.upper) and repeated.upper == pytest.approx(plain.upper)


def test_one_pair_bounds_nothing():
    assert stats.paired_bound([0], [1]).upper == stats.paired_bound([0], [1]).error == math.inf


def test_bootstrap_repeats_itself_and_widens_with_clusters():
    rng = np.random.default_rng(4)
    clusters = list(np.repeat(np.arange(20), 10))
    after = np.repeat(rng.normal(size=20), 10)
    alone = stats.paired_bootstrap(np.zeros(200), after)
    together = stats.paired_bootstrap(np.zeros(200), after, clusters)
    assert together == stats.paired_bootstrap(np.zeros(200), after, clusters)
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.low <= together.estimate <= together.high
    assert stats.paired_bootstrap([0, 0], [0, 1], ["a", "a"]) == stats.Figure(0.5, 0.5, 0.5, 2), "one cluster has one mean"


def test_mcnemar_is_the_exact_binomial_test():
    before = [1, 1, 0, 0, 0, 0, 0, 1, 0]
    after = [1, 1, 1, 1, 1, 1, 1, 0, 0]
    result = stats.mcnemar(before, after)
    assert (result.gained, result.lost) == (5, 1)
    assert result.p_rise == pytest.approx(7 / 64) and result.p_fall == pytest.approx(63 / 64)
    assert result.p_two_sided == pytest.approx(14 / 64)
    assert stats.mcnemar([1, 0], [1, 0]).p_two_sided == 1


def test_mcnemar_stands_large_samples():
    assert 0 < stats.mcnemar([0] * 1500 + [1] * 1400, [1] * 1500 + [0] * 1400).p_rise < 0.05


def test_power_is_the_inverse_of_the_sample_size():
    m = stats.mean_sample_size(0.1, 0.4)
    assert stats.mean_power(m, 0.1, 0.4) >= 0.8 > stats.mean_power(m - 1, 0.1, 0.4)


def test_paired_numbers_must_pair():
    with pytest.raises(ValueError, match="one length"):
        stats.paired_bound([1, 2], [1])
    with pytest.raises(ValueError, match="cluster labels"):
        stats.paired_bound([1, 2], [1, 2], clusters=["a"])


def test_the_bound_of_a_share_is_exact():
    assert stats.share_at_most(0, 59) < 0.05 < stats.share_at_most(0, 58), "the rule of three, exactly"
    assert stats.share_at_most(0, 150, 0.01) == pytest.approx(1 - 0.01 ** (1 / 150))
    assert binom.cdf(3, 40, stats.share_at_most(3, 40, 0.01)) == pytest.approx(0.01) and stats.share_at_most(4, 4) == 1
    for share, alpha in ((0.05, 0.05), (0.025, 0.005), (0.1, 0.0003)):
        n = stats.unseen_sample_size(share, alpha)
        assert stats.share_at_most(0, n, alpha) <= share < stats.share_at_most(0, n - 1, alpha)


def test_figures_go_into_json_without_nan():
    assert stats.wilson(0, 0).to_dict() == {"estimate": None, "low": 0.0, "high": 1.0, "n": 0}


def test_effective_number() -> None:
    assert stats.effective_number([]) == 1 and stats.effective_number("aaaa") == pytest.approx(1)
    assert stats.effective_number("abcd") == pytest.approx(4) and 1 < stats.effective_number("aaaaaaab") < 2


def test_cluster_bootstrap_is_wilson_without_clusters_and_wider_with_them() -> None:
    hits = [True] * 120 + [False] * 280
    alone, plain = stats.cluster_bootstrap(hits, range(400)), stats.wilson(120, 400)
    assert alone.estimate == plain.estimate == 0.3 and alone.n == 400
    assert alone.low == pytest.approx(plain.low, abs=0.01) and alone.high == pytest.approx(plain.high, abs=0.01)
    alike = stats.cluster_bootstrap(hits, [i // 40 for i in range(400)])
    assert alike.high - alike.low > 3 * (alone.high - alone.low)


def test_cluster_bootstrap_covers_what_it_says() -> None:
    """Shares of 20 clusters are drawn anew 300 times: the true mean lies in 9 to 10 of 10 intervals."""
    draw, inside = np.random.default_rng(1), 0
    for _ in range(300):
        shares = draw.beta(2, 2, 20)
        hits = (draw.random((20, 10)) < shares[:, None]).ravel().tolist()
        found = stats.cluster_bootstrap(hits, [i // 10 for i in range(200)], draws=400)
        inside += found.low <= 0.5 <= found.high
    assert 0.88 <= inside / 300 <= 0.98


def test_cluster_bootstrap_of_one_cluster_and_of_nothing() -> None:
    assert stats.cluster_bootstrap([True, False], ["a", "a"]) == stats.Figure(0.5, 0.0, 1.0, 2)
    assert stats.cluster_bootstrap([], []).n == 0
    with pytest.raises(ValueError, match="give one for each"):
        stats.cluster_bootstrap([True], [])
