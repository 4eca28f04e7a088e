"""Intervals, paired comparisons and sample sizes.

Two-sided intervals cover `confidence`; one-sided bounds hold with `confidence` each. Quantiles of t and beta, binomial tails
and resampling are SciPy's. Score intervals of fractional counts, DeLong's variance, cluster-robust errors and confidence
sequences are ours: SciPy has none of them.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import beta, binom, bootstrap, entropy
from scipy.stats import t as student_t

_NORMAL = NormalDist()
_AT_ONCE = 2_000_000
"""Clusters that a bootstrap holds in memory at one time, over all its draws."""


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
    """Mean of paired differences, of standard error `error`, with one-sided bounds: above `lower`, and below `upper`, each
    with the confidence."""

    mean: float
    lower: float
    upper: float
    n: int
    error: float


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

    Successes need not be whole where n counts clusters; SciPy's `proportion_ci` takes whole ones only.
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


def auroc(
    low: ArrayLike,
    high: ArrayLike,
    confidence: float = 0.95,
    clusters: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
) -> Figure:
    """P(low < high) + P(low = high)/2, with DeLong's variance (1988) and a logit interval, which stays within 0..1.

    With psi the placement of each observation among the others: var = var(psi over low)/m + var(psi over high)/n. With
    clusters (of each observation of either group) sums of psi over clusters take the place of psi, and those that hang
    together across the groups count twice (Obuchowski, Biometrics 53, 1997). At 0 or 1, where that variance is nought, the
    interval is Wilson's on the smaller group.
    """
    x, y = np.asarray(low, float), np.asarray(high, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("an AUROC needs finite numbers: leave out responses without a score")
    if min(len(x), len(y)) == 0:
        return Figure(math.nan, 0.0, 1.0, 0)
    n = len(x) + len(y)
    placed_y, placed_x = _placed(y, x), 1 - _placed(x, y)
    area = float(placed_y.mean())
    if min(len(x), len(y)) < 2 or (clusters is not None and min(len(set(ids)) for ids in clusters) < 2):
        return Figure(area, 0.0, 1.0, n)
    if clusters is None:
        variance = placed_x.var(ddof=1) / len(x) + placed_y.var(ddof=1) / len(y)
    else:
        of_low, of_high = (_sums(psi, ids) for psi, ids in zip((placed_x, placed_y), clusters, strict=True))
        own = sum(_unbiased(len(sums)) * sum(s**2 for s in sums.values()) for sums in (of_low, of_high))
        both = sum(of_low[one] * of_high[one] for one in of_low.keys() & of_high.keys())
        variance = own + 2 * _unbiased(len(of_low.keys() | of_high.keys())) * both
    error = math.sqrt(max(0.0, variance))
    if error == 0 or area in (0.0, 1.0):
        smaller = min(len(x), len(y))
        around = wilson(round(area * smaller), smaller, confidence)
        return Figure(area, min(area, around.low), max(area, around.high), n)
    odds = logit(area)
    half = _NORMAL.inv_cdf((1 + confidence) / 2) * error / (area * (1 - area))
    return Figure(area, float(expit(odds - half)), float(expit(odds + half)), n)


def _placed(some: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each the share of the others that lie under it; ties count half."""
    ordered = np.sort(among)
    return (np.searchsorted(ordered, some, "left") + np.searchsorted(ordered, some, "right")) / (2 * len(among))


def _sums(psi: NDArray[np.float64], clusters: Sequence[Hashable]) -> dict[Hashable, float]:
    """By cluster the sum of what is over the mean, each as a share of all."""
    sums: dict[Hashable, float] = {}
    for cluster, over in zip(clusters, ((psi - psi.mean()) / len(psi)).tolist(), strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + over
    return sums


def _unbiased(clusters: int) -> float:
    """g / (g - 1), by which a mean of squares over g clusters falls short."""
    return clusters / (clusters - 1)


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
        residual = np.bincount(_codes(clusters, n), residual).astype(float)
    groups = len(residual)
    if groups < 2:
        return Bound(mean, -math.inf, math.inf, n, math.inf)
    error = math.sqrt(groups / (groups - 1) * float((residual**2).sum())) / n
    half = float(student_t.ppf(confidence, groups - 1)) * error
    return Bound(mean, mean - half, mean + half, n, error)


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
    codes = np.arange(n) if clusters is None else _codes(clusters, n)
    sums, sizes = np.bincount(codes, difference).astype(float), np.bincount(codes).astype(float)
    mean = float(difference.mean())
    low, high = _resampled(sums, sizes, draws, confidence, seed) if len(sums) > 1 else (mean, mean)
    return Figure(mean, low, high, n)


def mcnemar(before: ArrayLike, after: ArrayLike) -> McNemar:
    """Exact test on paired binary outcomes (McNemar 1947): of the discordant pairs, gained ~ Binomial(total, 1/2)."""
    difference = _differences(np.asarray(before, bool), np.asarray(after, bool))
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    rise, fall = (float(binom.sf(count - 1, gained + lost, 0.5)) for count in (gained, lost))
    return McNemar(gained, lost, rise, fall, min(1.0, 2 * min(rise, fall)))


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


def share_at_most(events: int, n: int, alpha: float = 0.05) -> float:
    """Exact upper bound, of confidence 1 - alpha, of the share of an event that so many of n independent observations show
    (Clopper and Pearson 1934); 1 - alpha^(1/n) where none does."""
    return float(beta.ppf(1 - alpha, events + 1, n - events)) if events < n else 1.0


def unseen_sample_size(share: float, alpha: float = 0.05) -> int:
    """Observations that must show no event for that bound to be at most `share`, above 0 and below 1."""
    return math.ceil(math.log(alpha) / math.log1p(-share))


def _differences(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    x, y = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"paired numbers come in two rows of one length, not {x.shape} and {y.shape}")
    return y - x


def _codes(clusters: Sequence[Hashable], n: int) -> NDArray[np.int64]:
    """The number of each pair's cluster, in order of first appearance."""
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} cluster labels do not fit {n} pairs: give one for each pair")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in clusters])


def _resampled(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], draws: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Percentile interval of sum(sums) / sum(sizes) over resampled clusters. sums, sizes: (clusters,), of two or more."""
    ends = bootstrap(
        (sums, sizes),
        lambda some, of, axis: some.sum(axis) / of.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=draws,
        batch=max(1, _AT_ONCE // len(sums)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(ends.low), float(ends.high)


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
    inside = np.bincount(which, weights=np.asarray(hits, float)).astype(float)
    if len(size) == 1:
        return Figure(float(inside[0] / size[0]), 0.0, 1.0, len(hits))
    low, high = _resampled(inside, size, draws, confidence, seed)
    return Figure(float(inside.sum() / size.sum()), low, high, len(hits))


def effective_number(kinds: Iterable[Hashable]) -> float:
    """How many kinds there are, the rare counting for less: the exponential of their Shannon entropy; 1 of none."""
    counts = list(Counter(kinds).values())
    return float(np.exp(entropy(counts))) if counts else 1.0
