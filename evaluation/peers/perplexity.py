"""A perplexity filter: what no language model would expect, such as a suffix found by search, is refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.attacks.attack import Query
from evaluation.endpoint import Reply, Target
from evaluation.peers.peer import Manner, Peer, PeerError, options
from evaluation.peers.queries import asked
from evaluation.peers.refusal import REFUSAL, refused
from evaluation.peers.scorer import Scorer, load

FORM = "perplexity:MODEL_FOLDER@THRESHOLD[,window=TOKENS]"


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Refuses where the user's last message scores over the threshold; the scorer is asked by one at a time."""

    target: Target
    scorer: Callable[[str], float]
    threshold: float
    refusal: str = REFUSAL
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, query: Query, seed: int) -> Reply:
        """The response, or a refusal of what reads too oddly. Raises EndpointError."""
        async with self.lock:
            score = await asyncio.to_thread(self.scorer, asked(query.messages))
        return refused(self.refusal) if score > self.threshold else await self.target.ask(query, seed)


def threshold(scores: Sequence[float], rate: float) -> float:
    """The lowest threshold over which lies at most the share `rate` of the scores of harmless prompts; at rate 0 their
    highest, as in the paper. Raises PeerError where there are none, or the rate is no share."""
    if not scores or not 0 <= rate < 1:
        raise PeerError(f"{len(scores)} scores give no threshold at the rate {rate}: score some prompts; 0 <= rate < 1.")
    return sorted(scores, reverse=True)[int(rate * len(scores) + 1e-9)]


def build(given: str, target: Target, manner: Manner) -> Target:
    folder, _, rest = given.rpartition("@")
    number, _, others = rest.partition(",")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    window = options(FORM, others, {"window": 0})["window"]
    if not folder or not math.isfinite(limit) or window < 0:
        raise PeerError(f"perplexity:{given} names no folder and threshold: write {FORM}, the threshold in nats.")
    return Perplexity(target, Scorer(load(Path(folder)), window), limit, manner.refusal)


PEER = Peer(
    name="perplexity",
    form=FORM,
    about="Refuses what a language model finds too surprising, as a whole or, with a window, in any part.",
    source="Baseline Defenses for Adversarial Attacks Against Aligned Language Models, arXiv:2309.00614",
    build=build,
)
