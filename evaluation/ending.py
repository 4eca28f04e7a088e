"""Endings: whether an answer is a refusal, filtered or undecided, where its text alone does not say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from openai import APIStatusError

FILTERS = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")
"""Codes of a filter that turned a request away: OpenAI's, Azure's (`innererror`, also as proxies pass it on)."""
CUT_SHORT = "output limit was reached"
"""In the 400 by which OpenAI says that a model had thought up all its tokens before it said anything."""
THOUGHT = re.compile(r"\s*<think(?:ing)?>(?!.*</think(?:ing)?>)", re.DOTALL | re.IGNORECASE)


class Ending(StrEnum):
    """SAID: the text is the answer, even where it is empty. FILTERED: a filter before or behind the model withheld all of
    it, which is a refusal. UNDECIDED: it ran out of tokens while it was thinking, or called a tool: nothing was said yet."""

    SAID = "said"
    FILTERED = "filtered"
    UNDECIDED = "undecided"


def ending(choice: Any, usage: Any) -> Ending:
    """How a choice of a chat completion ended; usage: that of its answer, or None."""
    message, cut = choice.message, choice.finish_reason == "length"
    text = spoken(message)
    if text.strip():
        return Ending.UNDECIDED if cut and THOUGHT.match(text) else Ending.SAID
    if choice.finish_reason == "content_filter":
        return Ending.FILTERED
    called = message is not None and (message.tool_calls or message.function_call)
    return Ending.UNDECIDED if called or (cut and thought(message, usage)) else Ending.SAID


def spoken(message: Any) -> str:
    """What a message says: its content, or the refusal that some give apart."""
    return (message.content or message.refusal or "") if message is not None else ""


def thought(message: Any, usage: Any) -> bool:
    """Whether a model reasoned: the reasoning is there, by either name, or its tokens were counted."""
    more = (message.model_extra or {}) if message is not None else {}
    details = getattr(usage, "completion_tokens_details", None)
    return bool(more.get("reasoning_content") or more.get("reasoning") or getattr(details, "reasoning_tokens", 0))


def refused_with(error: APIStatusError) -> Ending | None:
    """The ending of a failed request whose error is an answer in itself; None where it is a failure."""
    if any(code in FILTERS for code in codes(error.body)) or str(error.code).casefold() in FILTERS:
        return Ending.FILTERED
    return Ending.UNDECIDED if error.status_code == 400 and CUT_SHORT in error.message else None


def codes(body: Any) -> set[str]:
    """Every `code` in an error's body, however deep, in lower case."""
    if isinstance(body, Mapping):
        own = {str(body["code"]).casefold()} if body.get("code") else set()
        return own.union(*map(codes, body.values()))
    return set().union(*map(codes, body)) if isinstance(body, list) else set()
