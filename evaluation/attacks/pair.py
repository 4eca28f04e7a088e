"""An attacker model that mends its prompt by the target's answer and score."""

from random import Random

from evaluation.attacks.attack import Attack, Query, Tries, said
from evaluation.attacks.attacker import asked, briefing, feedback, idea
from evaluation.attacks.turns import assistant, user
from evaluation.suite import Prompt

STREAMS = 5
TURNS = 4
"""Talks with the attacker side by side, and tries in each: twenty queries, the paper's budget."""


def tries(prompt: Prompt, luck: Random) -> Tries:
    """A stream whose attacker says nothing of use asks it again in the next turn."""
    talks = [briefing(prompt.text)] * STREAMS
    for _ in range(TURNS):
        written = yield [asked(talk) for talk in talks]
        ideas = [(n, text) for n, answer in enumerate(written) if (text := idea(answer.text))]
        if not ideas:
            continue
        answers = yield [Query(said(prompt, text)) for _, text in ideas]
        for (n, _), answer in zip(ideas, answers, strict=True):
            talks[n] = (*talks[n], assistant(written[n].text), user(feedback(answer)))


ATTACK = Attack(
    name="pair",
    about="An attacker model rewrites the prompt by what the target answered and how it scored.",
    source="Jailbreaking Black Box Large Language Models in Twenty Queries, arXiv:2310.08419",
    tries=tries,
    needs=frozenset({"attacker"}),
)
