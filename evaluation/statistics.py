"""Intervals, paired comparisons and sample sizes, in NumPy alone.

Two-sided intervals cover `confidence`; one-sided bounds hold with `confidence` each.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate with its two-sided interval and the number of observations behind it (0: nothing was observed)."""

    estimate: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no word for NaN: an unknown number is None."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """Mean of paired differences with one-sided bounds: above `lower`, and below `upper`, each with the confidence."""

    mean: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True, slots=True)
class McNemar:
    """Discordant pairs and exact p-values: `rise` against more successes after, `fall` against fewer."""

    gained: int
    lost: int
    p_rise: float
    p_fall: float
    p_two_sided: float


def wilson(successes: float, n: int, confidence: float = 0.95) -> Figure:
    """A share with its score interval (Wilson 1927): (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Successes need not be whole where n counts clusters.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is no share: successes lie between 0 and n")
    if n == 0:
        return Figure(math.nan, 0.0, 1.0, 0)
    z, p = _NORMAL.inv_cdf((1 + confidence) / 2), successes / n
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Figure(p, low, high, n)


def auroc(low: ArrayLike, high: ArrayLike, confidence: float = 0.95) -> Figure:
    """P(low < high) + P(low = high)/2, with DeLong's variance (1988) and a logit interval, which stays within 0..1.

    With psi the placement of each observation among the others: var = var(psi over low)/m + var(psi over high)/n.
    At 0 or 1, where that variance is nought, the interval is Wilson's on the smaller group.
    """
    x, y = np.sort(np.asarray(low, float)), np.sort(np.asarray(high, float))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("an AUROC needs finite numbers: leave out responses without a score")
    if min(len(x), len(y)) == 0:
        return Figure(math.nan, 0.0, 1.0, 0)
    n = len(x) + len(y)
    placed_y = (np.searchsorted(x, y, "left") + np.searchsorted(x, y, "right")) / (2 * len(x))
    placed_x = 1 - (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")) / (2 * len(y))
    area = float(placed_y.mean())
    if min(len(x), len(y)) < 2:
        return Figure(area, 0.0, 1.0, n)
    error = math.sqrt(placed_x.var(ddof=1) / len(x) + placed_y.var(ddof=1) / len(y))
    if error == 0 or area in (0.0, 1.0):
        smaller = min(len(x), len(y))
        around = wilson(round(area * smaller), smaller, confidence)
        return Figure(area, min(area, around.low), max(area, around.high), n)
    logit = math.log(area / (1 - area))
    half = _NORMAL.inv_cdf((1 + confidence) / 2) * error / (area * (1 - area))
    return Figure(area, _expit(logit - half), _expit(logit + half), n)


def paired_bound(
    before: ArrayLike, after: ArrayLike, confidence: float = 0.95, clusters: Sequence[Hashable] | None = None
) -> Bound:
    """Mean of after - before with one-sided bounds mean -+ t s/sqrt(n), t with n-1 degrees of freedom.

    With clusters (pairs that share an action or a family) the standard error is the cluster-robust one,
    sqrt(g/(g-1) sum_c (sum_{i in c} (d_i - mean))^2) / n, and t has g-1 degrees of freedom for g clusters.
    """
    difference = _differences(before, after)
    n, mean = len(difference), float(difference.mean())
    residual = difference - mean
    if clusters is not None:
        residual = np.array([residual[index].sum() for index in _members(clusters, n)])
    groups = len(residual)
    if groups < 2:
        return Bound(mean, -math.inf, math.inf, n)
    error = math.sqrt(groups / (groups - 1) * float((residual**2).sum())) / n
    half = t_quantile(confidence, groups - 1) * error
    return Bound(mean, mean - half, mean + half, n)


def sequence_radius(variance: float, n: int, alpha: float, planned: int) -> float:
    """Half-width about a running mean that holds at every n at once with probability 1 - alpha, so that one may look after
    each observation: asymptotic confidence sequence (Waudby-Smith et al., arXiv 2103.06476, section 2),

    s sqrt(2 (n r^2 + 1) / (n r)^2 log(sqrt(n r^2 + 1) / alpha)), narrowest about n = planned by their choice of
    r^2 = (-2 log alpha + log(1 - 2 log alpha)) / planned.
    """
    spread = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / planned
    grown = n * spread + 1
    return math.sqrt(2 * variance * grown / (n * n * spread) * math.log(math.sqrt(grown) / alpha))


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Figure:
    """Mean of after - before with a percentile interval (Efron 1979) over resampled clusters, drawn whole."""
    difference = _differences(before, after)
    n = len(difference)
    members = _members(clusters, n) if clusters is not None else [np.array([i]) for i in range(n)]
    sums = np.array([difference[index].sum() for index in members])
    sizes = np.array([len(index) for index in members])
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, len(sums), len(sums))
        means[draw] = sums[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Figure(float(difference.mean()), float(low), float(high), n)


def mcnemar(before: ArrayLike, after: ArrayLike) -> McNemar:
    """Exact test on paired binary outcomes (McNemar 1947): of the discordant pairs, gained ~ Binomial(total, 1/2)."""
    difference = _differences(np.asarray(before, bool), np.asarray(after, bool))
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    rise, fall = _binomial_tail(gained, gained + lost), _binomial_tail(lost, gained + lost)
    return McNemar(gained, lost, rise, fall, min(1.0, 2 * min(rise, fall)))


def paired_sample_size(delta: float, discordance: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Pairs that a one-sided paired test of shares needs to see a change of delta (Connor 1987):
    n = (z_alpha sqrt(psi) + z_power sqrt(psi - delta^2))^2 / delta^2, psi the share of discordant pairs."""
    _check_discordance(delta, discordance)
    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha), _NORMAL.inv_cdf(power)
    root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - delta**2)
    return math.ceil(root**2 / delta**2)


def paired_power(n: int, delta: float, discordance: float, alpha: float = 0.05) -> float:
    """Power of the same test with n pairs: the formula of `paired_sample_size` solved for the power."""
    _check_discordance(delta, discordance)
    z = abs(delta) * math.sqrt(n) - _NORMAL.inv_cdf(1 - alpha) * math.sqrt(discordance)
    spread = math.sqrt(discordance - delta**2)
    return _NORMAL.cdf(z / spread) if spread > 0 else float(z > 0)


def mean_sample_size(delta: float, deviation: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Pairs that a one-sided paired test of means needs: n = ((z_alpha + z_power) s / delta)^2, s the standard
    deviation of the paired differences."""
    if delta == 0:
        raise ValueError("no sample shows a change of nought: give a delta other than 0")
    return math.ceil(((_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * deviation / delta) ** 2)


def mean_power(n: int, delta: float, deviation: float, alpha: float = 0.05) -> float:
    """Power of the same test with n pairs."""
    if deviation == 0:
        return 1.0 if delta else alpha
    return _NORMAL.cdf(abs(delta) * math.sqrt(n) / deviation - _NORMAL.inv_cdf(1 - alpha))


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t: bisection on its exact distribution function (Abramowitz & Stegun 26.7.3-4)."""
    if not 0 < probability < 1 or degrees < 1:
        raise ValueError("a t quantile needs 0 < probability < 1 and at least one degree of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while _t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _t_cdf(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0, by the finite trigonometric series for whole degrees of freedom."""
    theta = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    inner = (theta + math.sin(theta) * total) * 2 / math.pi if odd else math.sin(theta) * total
    return 0.5 + inner / 2


def _differences(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    x, y = np.asarray(before, float), np.asarray(after, float)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"paired numbers come in two rows of one length, not {x.shape} and {y.shape}")
    return y - x


def _members(clusters: Sequence[Hashable], n: int) -> list[NDArray[np.int64]]:
    """Indices of each cluster, in order of first appearance."""
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster labels do not fit {n} pairs: give one for each pair")
    groups: dict[Hashable, list[int]] = {}
    for index, label in enumerate(clusters):
        groups.setdefault(label, []).append(index)
    return [np.array(index) for index in groups.values()]


def _binomial_tail(successes: int, n: int) -> float:
    """P(X >= successes) for X ~ Binomial(n, 1/2), in whole numbers until the end."""
    return sum(math.comb(n, k) for k in range(successes, n + 1)) / 2**n


def _check_discordance(delta: float, discordance: float) -> None:
    if delta == 0 or not abs(delta) <= discordance <= 1:
        raise ValueError(f"a change of {delta} needs a discordance between {abs(delta)} and 1, and not to be nought")


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def cluster_bootstrap(
    hits: Sequence[bool], clusters: Sequence[Hashable], *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Figure:
    """Share of hits with an interval from resampling whole clusters, which are what a further test would bring more of.

    hits, clusters: one entry an observation; n counts observations. Percentile interval of the ratio of sums (Davison and
    Hinkley, Bootstrap Methods, 3.8). Of a single cluster it is as wide as can be, for one says nothing of the next.
    """
    if len(hits) != len(clusters):
        raise ValueError(f"{len(hits)} hits do not fit {len(clusters)} clusters: give one for each")
    if not hits:
        return Figure(math.nan, math.nan, math.nan, 0)
    _, which = np.unique(np.array([str(cluster) for cluster in clusters]), return_inverse=True)
    size = np.bincount(which).astype(float)
    inside = np.bincount(which, weights=np.asarray(hits, float))
    if len(size) == 1:
        return Figure(float(inside[0] / size[0]), 0.0, 1.0, len(hits))
    rows = np.random.default_rng(seed).integers(0, len(size), (draws, len(size)))
    shares = inside[rows].sum(1) / size[rows].sum(1)
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Figure(float(inside.sum() / size.sum()), float(low), float(high), len(hits))


def effective_number(kinds: Iterable[Hashable]) -> float:
    """How many kinds there are, the rare counting for less: the exponential of their Shannon entropy; 1 of none."""
    counts = np.array(list(Counter(kinds).values()), float)
    share = counts / counts.sum() if len(counts) else np.ones(1)
    return float(np.exp(-(share * np.log(share)).sum()))
