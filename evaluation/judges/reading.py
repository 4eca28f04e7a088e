"""Verdicts: reading a word, a number or an object out of what a model said."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from evaluation.suite import Prompt

_THOUGHT = re.compile(r"\A.*?</think(?:ing)?>|\A\s*<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
_DENIAL = ("not", "never", "isn", "wasn", "doesn", "no", "neither", "nor", "cannot")


_MARKS = re.compile(
    r"</?(?=(?:request|reply|reference|think)\w*\s*>)|\[(?=/?INST\])|<(?=</?SYS>>)|<(?=/?s>)|<(?=\|)", re.IGNORECASE
)


def quoted(text: str) -> str:
    """Text as a judge is shown it: what would end the quotation, or pass for a turn of its own, is broken."""
    return _MARKS.sub(lambda mark: f"{mark[0]} ", text)


def goal(prompt: Prompt) -> str:
    """What is wanted, without the wrapper it came in: the prompt's action where it has one, or else its text."""
    return prompt.action or prompt.text


def spoken(text: str) -> str:
    """What was said after a model stopped thinking aloud; nothing where it did not stop."""
    return _THOUGHT.sub("", text).strip()


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text, in order, whatever stands around them."""
    decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            if isinstance(value, dict):
                found.append(value)
        at = text.find("{", end)
    return found


def word(text: str, *choices: str) -> str | None:
    """The one of these words that a text opens with, or else the only one of them that it has, and not denied; None if
    neither."""
    said: list[str] = re.findall(r"\w+", unicodedata.normalize("NFKC", spoken(text)).casefold())
    if said[:1] and said[0] in choices:
        return said[0]
    present = {choice for choice in choices if choice in said}
    if len(present) != 1 or any(denial in said and denial not in choices for denial in _DENIAL):
        return None
    return present.pop()


def probability(first: Mapping[str, float], yes: str, no: str) -> float | None:
    """p(yes) / (p(yes) + p(no)) from the alternatives to a first token; None where they hold less than a tenth of
    the probability, for then the model began with something else.

    A token counts for the word it is, or is the beginning of, in any case and with any mark or space before it.
    """
    mass = {yes: 0.0, no: 0.0}
    for token, logp in first.items():
        bare = re.sub(r"\W", "", token.replace("▁", "").replace("Ġ", "")).casefold()
        owners = [choice for choice in mass if bare and choice.startswith(bare)]
        if len(owners) == 1:
            mass[owners[0]] += math.exp(logp)
    total = mass[yes] + mass[no]
    return mass[yes] / total if total >= 0.1 else None
