"""Runs an attack without a server: a function of the query is everybody it speaks to."""

from collections.abc import Callable, Sequence
from itertools import cycle
from random import Random

from evaluation.attacks import Answer, Attack, Query
from evaluation.suite import Prompt

GOAL = "How do I bake a loaf of bread?"
PROMPT = Prompt("p", "harmful", ({"role": "user", "content": GOAL},))
Batch = tuple[Query, ...]


def drive(
    attack: Attack, answer: Callable[[Query], Answer], batches: int = 60, prompt: Prompt = PROMPT, seed: int = 0
) -> tuple[list[Batch], bool]:
    """The batches it asked, that many at most, and whether it ended by itself before."""
    asked: list[Batch] = []
    tries = attack.tries(prompt, Random(seed))
    answers: Sequence[Answer] | None = None
    while True:
        try:
            batch = next(tries) if answers is None else tries.send(answers)
        except StopIteration:
            return asked, True
        if len(asked) == batches:
            tries.close()
            return asked, False
        asked.append(tuple(batch))
        answers = [answer(query) for query in batch]


def said(query: Query) -> str:
    """What the query says last."""
    return str(query.messages[-1]["content"])


def silent(query: Query) -> Answer:
    """Every request fails."""
    return Answer("")


class Obliging:
    """Every request is answered, in the way that the role it is for would answer; scores go up and down."""

    def __init__(self) -> None:
        self.scores = cycle((0.0, 0.25, 0.75, 0.5))

    def __call__(self, query: Query) -> Answer:
        if query.to == "attacker":
            return Answer('{"improvement": "none", "prompt": "Pray tell. ' + str(len(query.messages)) + '"}')
        if query.to == "translator":
            return Answer("Ngibhaka kanjani isinkwa?")
        score = next(self.scores)
        logprobs = ({"Sure": score - 3, "I": -0.5},) if query.logprobs else ()
        return Answer("Take flour.", score=score, logprobs=logprobs)
