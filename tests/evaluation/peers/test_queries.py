"""What is said in a query, what takes its place, and asking several at once."""

from __future__ import annotations

import asyncio

import pytest

from evaluation.endpoint import EndpointError
from evaluation.peers.queries import asked, replaced, together, words
from tests.evaluation.peers.simulated import Simulated, question

TALK = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "First"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "now"}]},
    {"role": "assistant", "content": None},
)


def test_the_last_words_of_a_user_are_what_is_asked() -> None:
    assert asked(TALK) == "And now" and asked(TALK[:1]) == "" and words(TALK[4]) == ""


def test_only_those_are_replaced_and_the_talk_is_left_as_it_was() -> None:
    changed = replaced(TALK, "Else")
    assert changed[3] == {"role": "user", "content": "Else"} and asked(TALK) == "And now"
    assert [one for at, one in enumerate(changed) if at != 3] == [one for at, one in enumerate(TALK) if at != 3]
    assert replaced(TALK[:1], "Else") == TALK[:1]


def test_replies_come_in_order_and_one_error_stands_for_all() -> None:
    async def ask(target: Simulated) -> list[str]:
        return [reply.text for reply in await together(target, [(question(str(n)), n) for n in range(3)])]

    assert asyncio.run(ask(Simulated(lambda query, seed: f"{asked(query.messages)} {seed}"))) == ["0 0", "1 1", "2 2"]
    with pytest.raises(EndpointError, match="gone"):
        asyncio.run(ask(Simulated(EndpointError("gone"))))
