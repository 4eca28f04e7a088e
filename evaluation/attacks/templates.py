"""Templates: attacks that are mere words around the goal, our own and an operator's (as JSON lines)."""

from collections.abc import Callable, Container
from pathlib import Path
from random import Random
from typing import Any

from evaluation.attacks.attack import Attack, Messages, Query, Tries, rewritten
from evaluation.attacks.turns import instead, user
from evaluation.suite import Prompt, SuiteError, json_lines

GOAL = "{goal}"
"""Where the goal goes. Nothing else in a template means anything, other braces least of all."""


def filled(template: str, goal: str) -> str:
    return template.replace(GOAL, goal)


def templated(*templates: str) -> Callable[[Prompt, Random], Tries]:
    """The tries of an attack that puts the goal into one of its templates, whichever luck picks."""
    return rewritten(lambda goal, luck: filled(luck.choice(templates), goal))


def load(path: str | Path, taken: Container[str]) -> dict[str, Attack]:
    """Attacks by name from JSON lines: `name`, either `template` or `messages` with {goal} in it, `about` and `source`.

    The messages stand in the place of what the prompt's user says last. Raises SuiteError (one sentence: file, line, cause,
    mend), also for a name that is `taken`.
    """
    attacks: dict[str, Attack] = {}
    for number, row in json_lines(path, "templates"):
        where = f"{path}, line {number}"
        attack = _from_row(row, where, Path(path).name)
        if attack.name in taken or attack.name in attacks:
            raise SuiteError(f"{where} has the name {attack.name!r}, which another attack has: give it one of its own")
        attacks[attack.name] = attack
    if not attacks:
        raise SuiteError(f"{path} holds no template: write one JSON object with 'name' and 'template' on each line")
    return attacks


def _from_row(row: Any, where: str, file: str) -> Attack:
    if not isinstance(row, dict):
        raise SuiteError(f"{where} is not a JSON object: write one with the keys 'name' and 'template'")
    name = row.get("name")
    if not isinstance(name, str) or not (name := name.strip()):
        raise SuiteError(f"{where} has no text under 'name': give the attack a name")
    for key in ("about", "source"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise SuiteError(f"{where} has a {key!r} that is not text: quote it or leave it out")
    turns = _turns(row, where)
    if not any(GOAL in turn["content"] for turn in turns):
        raise SuiteError(f"{where} does not say where the goal goes: write {GOAL} there")

    def tries(prompt: Prompt, luck: Random) -> Tries:
        said = tuple({**turn, "content": filled(turn["content"], prompt.text)} for turn in turns)
        yield (Query(instead(prompt, said)),)

    return Attack(name, row.get("about") or "A template of the operator's own.", row.get("source") or file, tries)


def _turns(row: dict[str, Any], where: str) -> Messages:
    template, messages = row.get("template"), row.get("messages")
    if (template is None) == (messages is None):
        raise SuiteError(f"{where} needs either 'template' or 'messages': give one of the two")
    if messages is None:
        if not isinstance(template, str):
            raise SuiteError(f"{where} has a 'template' that is not text: quote it")
        return (user(template),)
    if not isinstance(messages, list) or not messages:
        raise SuiteError(f"{where} has 'messages' that are no list of chat messages: write at least one into it")
    for message in messages:
        texts = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None,)
        if not all(isinstance(text, str) for text in texts):
            raise SuiteError(f"{where} has a message without text as 'role' and 'content': give every message both")
    return tuple(messages)
