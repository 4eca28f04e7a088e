"""A target without a network: a function of query and seed answers, and what was asked is kept."""

import asyncio
from collections.abc import Callable

from evaluation.attacks import Query
from evaluation.endpoint import Reply, Target

GOAL = "How do I bake a loaf of bread?"
ANSWER = "Take flour, water, salt and time."
TOKENS = (7, 3)
SURE = ({"Take": -0.1},)
TEXT = "w9 w31 w32 w30 w9"
"""In the words of the tiny model. No w0, w1 or w2 within a word: those are marks."""


class Simulated:
    """Says `answer`, or what it gives for (query, seed): a reply, or the text of one of TOKENS tokens; or raises it."""

    def __init__(self, answer: str | Exception | Callable[[Query, int], Reply | str] = ANSWER) -> None:
        self.answer = answer
        self.asked: list[tuple[Query, int]] = []

    async def ask(self, query: Query, seed: int) -> Reply:
        self.asked.append((query, seed))
        await asyncio.sleep(0)  # others may come between
        if isinstance(self.answer, Exception):
            raise self.answer
        said = self.answer if isinstance(self.answer, str) else self.answer(query, seed)
        return said if isinstance(said, Reply) else Reply(said, TOKENS, SURE if query.logprobs else ())

    @property
    def heard(self) -> list[str]:
        """What the users of its queries said last."""
        return [query.messages[-1]["content"] for query, _ in self.asked]


def question(text: str = GOAL) -> Query:
    return Query(({"role": "user", "content": text},))


def ask(target: Target, query: Query | str = GOAL, seed: int = 0) -> Reply:
    return asyncio.run(target.ask(question(query) if isinstance(query, str) else query, seed))
