"""SmoothLLM: the question is asked in several damaged copies, and most of the answers decide."""

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from evaluation.attacks.attack import Query
from evaluation.endpoint import Reply, Target
from evaluation.peers.peer import Manner, Peer, PeerError, options
from evaluation.peers.queries import asked, replaced, together
from evaluation.peers.refusal import decided, declined, looks_refused, total

FORM = "smooth[:n=COPIES,q=PERCENT,how=swap|insert|patch]"
Damage = Callable[[str, int, Random], str]
"""damage(text, count, luck): the text with `count` of its characters damaged."""


def swap(text: str, count: int, luck: Random) -> str:
    """Others in the place of some characters."""
    places = set(luck.sample(range(len(text)), count))
    return "".join(luck.choice(string.printable) if at in places else letter for at, letter in enumerate(text))


def insert(text: str, count: int, luck: Random) -> str:
    """Others behind some characters."""
    places = set(luck.sample(range(len(text)), count))
    return "".join(letter + luck.choice(string.printable) if at in places else letter for at, letter in enumerate(text))


def patch(text: str, count: int, luck: Random) -> str:
    """Others in the place of some characters in a row."""
    at = luck.randint(0, len(text) - count)
    return text[:at] + "".join(luck.choices(string.printable, k=count)) + text[at + count :]


DAMAGES: dict[str, Damage] = {"swap": swap, "insert": insert, "patch": patch}


@dataclass(frozen=True, slots=True)
class Smooth:
    """`copies` of what the user says last, each with `percent` of its characters damaged in its own way."""

    target: Target
    copies: int = 6
    percent: float = 10
    damage: Damage = swap
    is_refusal: Callable[[str], bool] = looks_refused

    async def ask(self, query: Query, seed: int) -> Reply:
        """One of the responses that agree with most of them, drawn by the seed: a refusal, unless more than half are none;
        tokens: of all copies. Raises EndpointError."""
        luck, text = Random(seed), asked(query.messages)
        count = int(len(text) * self.percent / 100)
        queries = []
        for _ in range(self.copies):
            messages = replaced(query.messages, self.damage(text, count, luck))
            queries.append((replace(query, messages=messages), luck.randrange(2**31)))
        drawn = await together(self.target, queries)
        replies = decided(drawn)
        refusals = [declined(reply, self.is_refusal) for reply in replies]
        most = 2 * sum(refusals) >= len(replies)
        chosen = luck.choice([reply for reply, refusal in zip(replies, refusals, strict=True) if refusal is most])
        return replace(chosen, tokens=total(*drawn))


def build(given: str, target: Target, manner: Manner) -> Target:
    found = options(FORM, given, {"n": 6, "q": 10.0, "how": "swap"})
    if found["n"] < 1 or not 0 <= found["q"] <= 100 or found["how"] not in DAMAGES:
        raise PeerError(f"smooth:{given} cannot be done: write {FORM} with a copy or more and 0 to 100 per cent.")
    return Smooth(target, found["n"], found["q"], DAMAGES[found["how"]], manner.is_refusal)


PEER = Peer(
    name="smooth",
    form=FORM,
    about="Asks damaged copies, and refuses where half of them are refused.",
    source="SmoothLLM: Defending Large Language Models Against Jailbreaking Attacks, arXiv:2310.03684",
    build=build,
)
