"""The surest of n: the question is asked several times, and the answer sent of which the model is surest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean

from evaluation.attacks.attack import Query
from evaluation.endpoint import EndpointError, Reply, Target
from evaluation.peers.peer import Manner, Peer, PeerError, options
from evaluation.peers.queries import together
from evaluation.peers.refusal import decided, declined, looks_refused, total

FORM = "best-of:N[,by=entropy|refusals]"


def unsure(replies: Sequence[Reply]) -> list[float]:
    """How unsure each response was, in nats: its mean entropy where our guard reports all, else minus the mean log p of
    its tokens (vLLM lists the one drawn first, others the likeliest). One that had no words to find, such as another peer's
    refusal, was sure. Raises EndpointError where nothing tells them apart."""
    reported = [((reply.guard or {}).get("entropy") or {}).get("mean") for reply in replies]
    entropies = [float(entropy) for entropy in reported if entropy is not None]
    if len(entropies) == len(replies):
        return entropies
    drawn = [[next(iter(position.values())) for position in reply.logprobs if position] for reply in replies]
    if not any(drawn) and len({reply.text for reply in replies}) > 1:
        raise EndpointError("The endpoint reports neither entropy nor logprobs: choose by=refusals, or ask one that does.")
    return [-fmean(logprobs) if logprobs else 0.0 for logprobs in drawn]


@dataclass(frozen=True, slots=True)
class BestOf:
    """`n` responses at temperature 1. by_refusals: the first of those that agree with most, refusals where it is a draw;
    else the surest of all."""

    target: Target
    n: int = 4
    by_refusals: bool = False
    is_refusal: Callable[[str], bool] = looks_refused

    async def ask(self, query: Query, seed: int) -> Reply:
        """One of the responses; tokens: of all. Raises EndpointError."""
        luck = Random(seed)
        alternatives = query.logprobs if self.by_refusals else max(query.logprobs, 1)
        copy = replace(query, temperature=1.0, logprobs=alternatives)
        drawn = await together(self.target, [(copy, luck.randrange(2**31)) for _ in range(self.n)])
        replies = decided(drawn)
        if self.by_refusals:
            refusals = [declined(reply, self.is_refusal) for reply in replies]
            best = replies[refusals.index(2 * sum(refusals) >= len(refusals))]
        else:
            doubts = unsure(replies)
            best = replies[doubts.index(min(doubts))]
        return replace(best, tokens=total(*drawn), logprobs=best.logprobs if query.logprobs else ())


def build(given: str, target: Target, manner: Manner) -> Target:
    head, comma, others = given.partition(",")
    found = options(FORM, given if "=" in head else f"n={head}{comma}{others}", {"n": 4, "by": "entropy"})
    if found["n"] < 1 or found["by"] not in ("entropy", "refusals"):
        raise PeerError(f"best-of:{given} cannot be done: write {FORM} with a response or more.")
    return BestOf(target, found["n"], found["by"] == "refusals", manner.is_refusal)


PEER = Peer(
    name="best-of",
    form=FORM,
    about="Asks n times and sends the answer of least entropy, or one of the kind that is most frequent.",
    source="Scalable Best-of-N Selection for Large Language Models via Self-Certainty, arXiv:2502.18581; votes: "
    "Self-Consistency Improves Chain of Thought Reasoning in Language Models, arXiv:2203.11171",
    build=build,
)
