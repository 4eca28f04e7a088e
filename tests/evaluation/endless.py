"""Prompts, and an attack that never ends."""

from __future__ import annotations

from random import Random

from evaluation import Prompt
from evaluation.attacks import Attack, Query, Tries, said


def prompt(number: int = 0, kind: str = "harmful", **more) -> Prompt:
    return Prompt(f"{kind}-{number}", kind, ({"role": "user", "content": f"{kind} {number}"},), **more)


def endless(prompt: Prompt, luck: Random) -> Tries:
    turn = 0
    while True:
        answers = yield [Query(said(prompt, f"{turn} {luck.random()}")) for _ in range(3)]
        assert len(answers) == 3
        turn += 1


ENDLESS = Attack("endless", "goes on", "this test", endless)
