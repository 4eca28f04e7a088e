"""A tree of prompts: an attacker model branches, what is off topic is pruned, and the best go on."""

from random import Random

from evaluation.attacks.attack import Attack, Query, Tries, said
from evaluation.attacks.attacker import asked, briefing, feedback, idea, says_no, still_on_topic
from evaluation.attacks.turns import assistant, user
from evaluation.suite import Prompt

DEPTH = 8
BRANCHES = 3
WIDTH = 4
"""Levels; prompts grown from each leaf; leaves kept of a level."""


def tries(prompt: Prompt, luck: Random) -> Tries:
    """A level from which nothing came is grown anew."""
    leaves = [briefing(prompt.text)]
    for _ in range(DEPTH):
        talks = [talk for talk in leaves for _ in range(BRANCHES)]
        written = yield [asked(talk) for talk in talks]
        grown = [
            ((*talk, assistant(answer.text)), text)
            for talk, answer in zip(talks, written, strict=True)
            if (text := idea(answer.text))
        ]
        if not grown:
            continue
        checks = yield [still_on_topic(prompt.text, text) for _, text in grown]
        grown = [branch for branch, check in zip(grown, checks, strict=True) if not says_no(check.text)]
        if not grown:
            continue
        answers = yield [Query(said(prompt, text)) for _, text in grown]
        tried = sorted(zip(grown, answers, strict=True), key=lambda pair: pair[1].score, reverse=True)
        leaves = [(*talk, user(feedback(answer))) for (talk, _), answer in tried[:WIDTH]]


ATTACK = Attack(
    name="tap",
    about="A tree of an attacker model's prompts: off-topic ones are pruned, the best of each level go on.",
    source="Tree of Attacks: Jailbreaking Black-Box LLMs Automatically, arXiv:2312.02119",
    tries=tries,
    needs=frozenset({"attacker"}),
)
