"""Conformal thresholds: at most a stated share of benign responses lies above one, with a stated confidence.

Split conformal prediction with a tolerance bound (Wilks 1941, Vovk 2012): of n exchangeable scores take the (k+1)-th largest
as the threshold; the share of fresh ones above it is Beta(k+1, n-k), so it is at most `share` with confidence
1 - BinomialCDF(k; n, share). Responses to one prompt, and prompts about one action, are not exchangeable with fresh ones; so
each cluster of them counts once, with its largest score.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """At most `share` of a class's fresh responses score above `threshold`, with `confidence`, from `clusters` observed."""

    threshold: float
    share: float
    confidence: float
    clusters: int


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p)."""
    return min(1.0, math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)))


def promise(scores: Iterable[tuple[Hashable, float]], share: float, confidence: float) -> Promise:
    """The lowest threshold that keeps the promise; `scores` are (cluster, score), -inf for a response never to be touched.

    With too few clusters for the confidence asked the largest score is the threshold, and the promise says the confidence
    that it has. Raises ValueError for a share or confidence outside (0, 1).
    """
    if not (0 < share < 1 and 0 < confidence < 1):
        raise ValueError(f"a promise needs a share and a confidence between 0 and 1, not {share} and {confidence}")
    largest: dict[Hashable, float] = {}
    for cluster, score in scores:
        largest[cluster] = max(largest.get(cluster, -math.inf), score)
    ordered, n = sorted(largest.values(), reverse=True), len(largest)
    if not n:
        return Promise(math.inf, share, 0.0, 0)
    allowed = 0
    while allowed + 1 < n and 1 - binomial_cdf(allowed + 1, n, share) >= confidence:
        allowed += 1
    return Promise(ordered[allowed], share, 1 - binomial_cdf(allowed, n, share), n)


def strictest(promises: Mapping[str, Promise]) -> float:
    """The threshold that keeps all of them: the class of a prompt is not known when it is served."""
    return max((p.threshold for p in promises.values()), default=math.inf)
