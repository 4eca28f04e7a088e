"""Agreement between judges of the same responses: the share they agree on, and how far that is beyond chance."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from evaluation.statistics import Figure, wilson

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two judges: the share of responses they call the same, and Cohen's kappa with its interval."""

    first: str
    second: str
    share: Figure
    kappa: Figure


@dataclass(frozen=True, slots=True)
class Agreement:
    """All pairs of judges, and Fleiss' kappa of three judges or more (None for two); n counts responses."""

    pairs: tuple[PairAgreement, ...]
    fleiss: Figure | None
    n: int


def agreement(
    verdicts: Mapping[str, Sequence[Hashable]], draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Agreement:
    """How far judges agree. verdicts: by judge, its verdict on each response, all in one order.

    Intervals are percentile bootstraps (Efron 1979) over responses; a share's is Wilson's.
    """
    sizes = {len(said) for said in verdicts.values()}
    if len(verdicts) < 2 or len(sizes) != 1:
        raise ValueError("agreement needs two judges or more, each with one verdict on every response: check both")
    names = sorted({str(verdict) for said in verdicts.values() for verdict in said})
    place = {name: index for index, name in enumerate(names)}
    coded = {judge: np.array([place[str(verdict)] for verdict in said], int) for judge, said in verdicts.items()}
    n = sizes.pop()
    rng = np.random.default_rng(seed)
    pairs = []
    for first, second in combinations(coded, 2):
        alike = int((coded[first] == coded[second]).sum())
        table = np.zeros((len(names), len(names)))
        np.add.at(table, (coded[first], coded[second]), 1)
        kappa = _bootstrapped(table.ravel(), _cohen, draws, confidence, rng)
        pairs.append(PairAgreement(first, second, wilson(alike, n, confidence), kappa))
    if len(verdicts) < 3:
        return Agreement(tuple(pairs), None, n)
    rows = np.stack([[(said == index).sum() for index in range(len(names))] for said in np.stack(list(coded.values())).T])
    patterns, seen = np.unique(rows.reshape(n, len(names)), axis=0, return_counts=True)
    fleiss = _bootstrapped(seen.astype(float), lambda counts: _fleiss(counts, patterns), draws, confidence, rng)
    return Agreement(tuple(pairs), fleiss, n)


def _cohen(counts: Counts) -> Counts:
    """Cohen's kappa (1960) of two judges, (p_o - p_e) / (1 - p_e), of flattened k x k tables: (draws, k k) -> (draws,).

    NaN where p_e = 1, for two judges who only ever say the same one thing tell nothing of each other.
    """
    kinds = math.isqrt(counts.shape[1])
    share = counts.reshape(-1, kinds, kinds) / counts.sum(1)[:, None, None]
    return _beyond(np.trace(share, axis1=1, axis2=2), (share.sum(2) * share.sum(1)).sum(1))


def _fleiss(counts: Counts, patterns: Counts) -> Counts:
    """Fleiss' kappa (1971) of as many judges for all responses: (draws, patterns) -> (draws,).

    counts: how often each pattern of votes was drawn; patterns: (patterns, k), how many judges chose each class.
    """
    judges = patterns[0].sum()
    alike = ((patterns**2).sum(1) - judges) / (judges * (judges - 1))
    total = counts.sum(1)
    observed = counts @ alike / total
    share = counts @ patterns / (total * judges)[:, None]
    return _beyond(observed, (share**2).sum(1))


def _beyond(observed: Counts, expected: Counts) -> Counts:
    room = 1 - expected
    return np.where(room > 1e-12, (observed - expected) / np.where(room > 1e-12, room, 1), math.nan)


def _bootstrapped(
    counts: Counts, kappa: Callable[[Counts], Counts], draws: int, confidence: float, rng: np.random.Generator
) -> Figure:
    """Percentile interval over responses, from NumPy: n responses drawn with replacement have multinomial counts.

    SciPy's bootstrap would draw the n responses themselves.
    """
    n = int(counts.sum())
    if n == 0:
        return Figure(math.nan, -1.0, 1.0, 0)
    estimate = float(kappa(counts[None])[0])
    drawn = kappa(rng.multinomial(n, counts / n, draws).astype(float))
    known = drawn[~np.isnan(drawn)]
    if math.isnan(estimate) or n == 1:
        return Figure(estimate, -1.0, 1.0, n)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Figure(estimate, float(low), float(high), n)
