"""A claim: what must not rise by more than a margin, and what a look at paired figures says of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation import Figure
from evaluation.statistics import Bound, mean_power, mean_sample_size, paired_bound, share_at_most, unseen_sample_size
from online.gate.look import Look
from online.settings.groups import GateSettings

WORTHWHILE = 0.1
"""Change that a claim without a margin must be able to show for the gate to have had a chance, as a share."""
FEW = 5
"""Prompts of a part under which nothing is said of it."""
FUTILE = 0.05
"""Chance to be shown at the last look under which a claim is given up. A good candidate's chance to be missed grows by a
factor of 1 / (1 - FUTILE) at most (stochastic curtailment: Lan, Simon and Halperin, Sequential Analysis 1, 1982)."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Claim:
    """ "`name` rises by at most `allowed`", paired. A proof must be shown; a check must only not be contradicted.

    backed: another claim proves the matter, so this one need not be shown by fewer prompts than that takes. unit: what
    `allowed` is counted in, shares or nats a token. part: of several checks of one name the part of the prompts that this
    one is about. Of few prompts of a part nothing is said.
    """

    name: str
    against: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    clusters: tuple[str, ...]
    allowed: float
    proof: bool
    strict: bool = False
    backed: bool = False
    unit: Literal["share", "nats"] = "share"
    part: str = ""

    @property
    def delta(self) -> float:
        """Distance from what is allowed at which a good candidate is expected: to no change, or one that is worth while."""
        return self.allowed or WORTHWHILE

    @property
    def binary(self) -> bool:
        """Whether all figures are 0 or 1."""
        return bool(np.isin((self.before, self.after), (0, 1)).all())

    @property
    def risen(self) -> tuple[int, int]:
        """Clusters that rose, and all of them."""
        sums: Counter[str] = Counter()
        for cluster, rise in zip(self.clusters, self.after - self.before, strict=True):
            sums[cluster] += rise
        return sum(rise > 0 for rise in sums.values()), len(sums)


def titled(name: str, part: str) -> str:
    """A claim's name, with the part of the prompts that it is about."""
    return f"{name} ({part})" if part else name


def weigh(claim: Claim, settings: GateSettings, look: Look) -> dict[str, Any]:
    """One claim by its one-sided bounds at the error of a look, clustered by action, and the prompts it would have needed.

    result: "contradicted"; of a check else "consistent", or "open" where its mean is over what is allowed and a later look
    may contradict it; of a proof "shown", "open" (a later look may show it), "not shown" or "too few prompts". Of fewer than
    `gate.fewest` nothing is shown or given up, whatever the bound says. A part's masses are open until the last look has
    seen them all; what another claim proves, and outcomes of a part, are not waited for.

    Of outcomes few pairs differ, and a standard error from them is too small, or nought. So the upper bound of a proof by
    outcomes is as far from the mean, at least, as the exact one of the share of clusters that rise is from that share.
    """
    alpha, end = look.error(settings.error), look.end.error(settings.error)
    bound = paired_bound(claim.before, claim.after, 1 - alpha, claim.clusters)
    deviation = bound.error * math.sqrt(bound.n)
    planned = look.planned(bound.n)
    known = math.isfinite(deviation)
    needed = max(settings.fewest, mean_sample_size(claim.delta, deviation, settings.power, end)) if known else None
    upper, blind = bound.upper, not known
    if claim.proof and claim.binary and needed is not None:
        risen, clusters = claim.risen
        upper = max(upper, bound.mean + share_at_most(risen, clusters, alpha) - risen / clusters)
        blind = share_at_most(0, clusters, alpha) > claim.delta
        needed = max(needed, math.ceil(unseen_sample_size(claim.delta, end) * bound.n / clusters))
    holds = upper < claim.allowed if claim.strict else upper <= claim.allowed
    enough = needed is not None and planned >= needed
    if bound.lower > claim.allowed and not (claim.part and bound.n < FEW):
        result = "contradicted"
    elif claim.part:
        result = "consistent" if look.last or claim.binary else "open"
    elif not claim.proof or (claim.backed and not (needed is not None and bound.n >= needed)):
        result = "consistent" if look.last or claim.backed or bound.mean <= claim.allowed else "open"
    elif bound.n >= settings.fewest and holds:
        result = "shown"
    elif not look.last and (bound.n < settings.fewest or _chance(claim, bound, deviation, planned, end) >= FUTILE):
        result = "open"
    else:
        result = "not shown" if enough and bound.n >= settings.fewest else "too few prompts"
    return {
        "change": Figure(bound.mean, bound.lower, upper, bound.n).to_dict(),
        "allowed": claim.allowed,
        "had": bound.n,
        "needed": needed,
        "power": 0.0 if blind else mean_power(bound.n, claim.delta, deviation, alpha),
        "result": result,
        "unit": claim.unit,
        "part": claim.part,
    }


def _chance(claim: Claim, bound: Bound, deviation: float, planned: int, error: float) -> float:
    """Probability that the last look, at its error, shows the claim: given what was seen, and where the rest goes on as it
    went or as a good candidate's would, whichever is better."""
    if not math.isfinite(deviation):
        return 1.0
    rest = planned - bound.n
    mean = (bound.n * bound.mean + rest * min(bound.mean, claim.allowed - claim.delta)) / planned
    room = claim.allowed - _NORMAL.inv_cdf(1 - error) * deviation / math.sqrt(planned) - mean
    spread = deviation * math.sqrt(rest) / planned
    return _NORMAL.cdf(room / spread) if spread else float(room >= 0)
