"""What waits to be learned from, and what is kept from it."""

from __future__ import annotations

from dataclasses import replace

from online.admission.queue import PROMPT_TOKENS
from online.events.buffer import Buffer
from online.events.event import prompt_hash
from online.settings.settings import Settings
from tests.online.admission.waiting import NEW, NOW, SALT, event, queue


def test_prompts_are_taken_once_with_all_who_sent_them_and_long_ones_never(buffer: Buffer) -> None:
    buffer.append([event(0, (1, 2), NEW, "a", "x"), event(1, (3,), NEW + 1, "a"), event(2, (1, 2), NEW + 2, "b", "y")])
    buffer.append([event(3, (4,) * (PROMPT_TOKENS + 1), NEW), event(4, (), NEW), event(5, (9,), NOW + 1)])
    buffer.append([replace(event(6, (8,)), model="another's")])
    found = queue(buffer)
    assert {one.tokens for one in found.prompts} == {(1, 2), (3,)} and found.counts()["queued"] == 2
    (first,) = (one for one in found.prompts if one.tokens == (1, 2))
    assert first.senders == {("a", "x"), ("b", "y")} and first.event.id == f"{2:032x}" and first.first == NEW
    assert all(not one.event.response and not one.event.entropies for one in found.prompts)


def test_what_operators_decided_goes_before_all_else(buffer: Buffer) -> None:
    buffer.append([event(at, [at, at + 1], NEW, client) for at, client in enumerate("abc")])
    names = [prompt_hash((at, at + 1), SALT) for at in range(3)]
    buffer.review("prompt", names[:1], "approved")
    buffer.review("prompt", names[1:2], "excluded")
    buffer.review("client", ["c"], "excluded")
    found = queue(buffer)
    assert {(one.prompt, one.fate) for one in found.prompts} == {(names[0], "approved"), (names[1], "excluded")}
    assert not any("c" in one.clients for one in found.prompts) and all(e.client != "c" for e in found.events)
    assert found.prompts[0].fate == "approved" and found.excluded == ("c",)


def test_a_flood_pushes_nobody_out_of_what_is_looked_at(buffer: Buffer) -> None:
    """One client that sends a hundred times what all others do, one prompt over and over or many of them."""
    small = Settings(update={"steps": 1, "screened_per_step": 8})  # 32 events are looked at
    buffer.append([event(at, [at, at + 1], NEW - at, f"c{at}") for at in range(10)])
    buffer.append([event(1000 + at, [7777], NEW + 1, "flood") for at in range(100)])
    buffer.append([event(2000 + at, [8000 + at, 1], NEW + 2, "flood") for at in range(100)])
    found = queue(buffer, small)
    assert {one.tokens for one in found.prompts} >= {(at, at + 1) for at in range(10)}
    assert [one.clients for one in found.prompts[:8]].count(frozenset({"flood"})) == 1
    buffer.review("client", ["flood"], "excluded")
    assert len(queue(buffer, small).prompts) == 10


def test_many_names_of_one_block_take_turns_as_one(buffer: Buffer) -> None:
    small = Settings(update={"steps": 1, "screened_per_step": 4})  # 16 events are looked at
    buffer.append([event(at, [at, at + 1], NEW - at, f"c{at}", f"b{at}") for at in range(10)])
    buffer.append([event(1000 + at, [8000 + at, 1], NEW + 1, f"name{at}", "one") for at in range(200)])
    found = queue(buffer, small)
    assert {one.tokens for one in found.prompts} >= {(at, at + 1) for at in range(10)}
