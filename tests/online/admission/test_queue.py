"""What waits to be learned from, and what is kept from it."""

from __future__ import annotations

from dataclasses import replace

from online.admission.queue import HOUR, LONG
from online.events.buffer import Buffer
from online.events.event import prompt_hash
from online.settings.settings import Settings
from tests.online.admission.waiting import NEW, NOW, SALT, event, fates, queue

LIMIT = Settings().queue.prompt_tokens


def test_prompts_are_taken_once_with_all_who_sent_them_and_long_ones_never(buffer: Buffer) -> None:
    buffer.append([event(0, (1, 2), NEW, "a", "x"), event(1, (3,), NEW + 1, "a"), event(2, (1, 2), NEW + 2, "b", "y")])
    buffer.append([event(3, (4,) * (LIMIT + 1), NEW), event(4, (), NEW), event(5, (9,), NOW + 1)])
    buffer.append([replace(event(6, (8,)), model="another's")])
    found = queue(buffer)
    assert {one.tokens for one in found.prompts if one.admitted} == {(1, 2), (3,)} and found.counts()["queued"] == 2
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


def test_prompts_that_are_too_long_are_counted_and_named(buffer: Buffer) -> None:
    short = Settings(queue={"prompt_tokens": 16})
    buffer.append([event(at, [at] * 17, NEW + at) for at in range(LONG + 5)] + [event(500, [7] * 17, NEW)])
    buffer.append([event(600, [9] * 16, NEW)])
    found = queue(buffer, short)
    named = [one for one in found.prompts if one.fate == "long"]
    assert found.counts()["long"] == LONG + 5 and len(named) == LONG and not any(one.admitted for one in named)
    assert {one.why for one in named} == {"17 tokens, more than queue.prompt_tokens = 16"}
    assert [one.tokens for one in found.prompts if one.admitted] == [(9,) * 16]
    assert queue(buffer).counts()["long"] == 0, "the limit is a setting"


def test_prompts_that_are_too_long_may_be_cut_in_their_middle(buffer: Buffer) -> None:
    cut = Settings(queue={"prompt_tokens": 16, "long_prompts": "truncate"})
    buffer.append([event(0, range(100), NEW), event(1, range(500, 505), NEW)])
    found = queue(buffer, cut)
    assert {one.tokens for one in found.prompts} == {(*range(8), *range(92, 100)), tuple(range(500, 505))}
    assert found.counts() == {**dict.fromkeys(found.counts(), 0), "queued": 2}
    (name,) = {one.prompt for one in found.prompts if len(one.tokens) == 16}
    assert name == prompt_hash(range(100), SALT)


def test_a_decision_about_a_long_prompt_holds_however_long_ones_are_cut(buffer: Buffer) -> None:
    buffer.append([event(0, range(100), NEW), event(1, [*range(50), *range(900, 950)], NEW), event(2, [7, 8], NEW)])
    buffer.review("prompt", [prompt_hash(range(100), SALT)], "excluded")
    for limit in (16, 20, 90, 100, 2000):
        found = queue(buffer, Settings(queue={"prompt_tokens": limit, "long_prompts": "truncate"}))
        assert found.counts()["excluded"] == 1 and found.counts()["queued"] == 2
    assert queue(buffer).counts()["excluded"] == 1


def test_what_is_cut_to_the_same_as_an_excluded_prompt_does_not_teach_it(buffer: Buffer) -> None:
    """Only their middles differ."""
    alike = [(*range(8), at, *range(92, 100)) for at in (50, 51)]
    buffer.append([event(at, tokens, NEW + at) for at, tokens in enumerate([*alike, (*range(8), *range(92, 100))])])
    for name in map(prompt_hash, [*alike, (*range(8), *range(92, 100))], [SALT] * 3):
        buffer.review("prompt", [name], "excluded")
        found = queue(buffer, Settings(queue={"prompt_tokens": 16, "long_prompts": "truncate"}))
        assert found.counts()["excluded"] == len(found.prompts) == 1
        buffer.review("prompt", [name], None)


SYSTEM = [1, 2, *range(10_000, 10_400), 4, 1, 3]
"""A system prompt of 400 tokens between marks of the template, and the header of the user's turn."""


def asked(number: int) -> list[int]:
    """A short question of its own under the system prompt."""
    return [*SYSTEM, *(100 + (number * step) % 997 for step in (1, 3, 5, 7, 11, 13)), 4, 1, 5]


def test_one_system_prompt_for_all_traffic_does_not_empty_the_queue(buffer: Buffer) -> None:
    """They differ in six tokens of 414, and yesterday's traffic was written by another system prompt."""
    old = [[1, 2, *range(20_000, 20_300), 4, 1, 3, *asked(at)[len(SYSTEM) :]] for at in range(200)]
    buffer.append([event(at, tokens, NOW - 30 * HOUR + at, f"c{at % 5}") for at, tokens in enumerate(old)])
    new = [asked(300 + at) for at in range(150)]
    buffer.append([event(1000 + at, tokens, NEW + at, f"c{at % 5}") for at, tokens in enumerate(new)])
    found = queue(buffer)
    assert fates(found, new) == ["queued"] * 150 and found.counts()["sudden"] == 0
    buffer.append([event(2000, [*SYSTEM, *range(300, 340), 4, 1, 5], NEW + 500, "c1")])
    buffer.append([event(2001, [*SYSTEM, *range(300, 339), 999, 4, 1, 5], NEW + 501, "c2")])
    found = queue(buffer)
    assert fates(found, [[*SYSTEM, *range(300, 339), 999, 4, 1, 5]]) == ["duplicate"], "what is asked is compared"


def test_a_flood_under_a_system_prompt_is_still_sudden(buffer: Buffer) -> None:
    buffer.append([event(at, asked(at), NOW - 30 * HOUR + at, f"c{at % 20}") for at in range(200)])
    flood = [[*asked(300 + at)[:-3], 9999, 4, 1, 5] for at in range(12)]
    buffer.append([event(1000 + at, tokens, NEW, f"c{at % 3}") for at, tokens in enumerate(flood)])
    buffer.append([event(1100 + at, asked(400 + at), NEW, f"c{at % 20}") for at in range(20)])
    found = queue(buffer)
    assert set(fates(found, flood)) <= {"sudden", "duplicate"} and found.counts()["sudden"] > 5
    assert {one.token for one in found.prompts if one.fate == "sudden"} == {9999}


FLOOD = [1, 2, *range(5000, 5040), 9999, 4, 1, 3]
"""A long beginning of an attacker's own, with the topic in it."""


def flooded(number: int) -> list[int]:
    return [*FLOOD, *asked(number)[len(SYSTEM) :]]


def test_a_flood_with_a_beginning_of_its_own_does_not_hide_what_it_is_about(buffer: Buffer) -> None:
    """Three known clients send most of the traffic."""
    for at in range(200):
        buffer.append([event(at, asked(at), NOW - 30 * HOUR + at, f"c{at % 20}")])
    flood = [flooded(400 + at) for at in range(150)]
    buffer.append([event(1000 + at, tokens, NEW + at, f"c{at % 3}") for at, tokens in enumerate(flood)])
    buffer.append([event(2000 + at, asked(700 + at), NEW, f"c{at % 20}") for at in range(40)])
    found = queue(buffer)
    assert "queued" not in fates(found, flood) and found.counts()["sudden"] > 100
    assert fates(found, [asked(700 + at) for at in range(40)]).count("queued") > 30
    topics = [one.own for one in found.prompts if one.tokens in set(map(tuple, flood))]
    assert all(9999 in own for own in topics)


def test_a_flood_is_sudden_while_everybody_else_is_asleep(buffer: Buffer) -> None:
    buffer.append([event(at, asked(at), NOW - 30 * HOUR + at, f"c{at % 20}") for at in range(200)])
    flood = [flooded(400 + at) for at in range(150)]
    buffer.append([event(1000 + at, tokens, NEW + at, f"c{at % 2}") for at, tokens in enumerate(flood)])
    assert "queued" not in fates(queue(buffer), flood)


def test_a_flood_is_sudden_where_nobody_can_be_told_apart(buffer: Buffer) -> None:
    buffer.append([event(at, asked(at), NOW - 30 * HOUR + at, "all") for at in range(200)])
    flood = [flooded(400 + at) for at in range(150)]
    buffer.append([event(1000 + at, tokens, NEW + at, "all") for at, tokens in enumerate(flood)])
    assert "queued" not in fates(queue(buffer), flood)


def test_strangers_and_excluded_prompts_make_nothing_common(buffer: Buffer) -> None:
    buffer.append([event(at, asked(at), NOW - 30 * HOUR + at, f"c{at % 20}") for at in range(200)])
    new = [[*SYSTEM, *range(600 + 9 * at, 609 + 9 * at), 4, 1, 5] for at in range(9)]
    shown = [event(1000 + at, tokens, NEW, f"c{at}") for at, tokens in enumerate(new)]
    sent = [event(2000 + at, flooded(at), NEW, f"fresh{at}", f"b{at}") for at in range(300)]
    excluded = [event(3000 + at, flooded(500 + at), NEW, f"c{at % 20}") for at in range(100)]
    buffer.append([*shown, *sent, *excluded])
    buffer.review("prompt", [prompt_hash(one.prompt_tokens, SALT) for one in excluded], "excluded")
    found = queue(buffer)
    assert {one.common for one in found.prompts if 9999 in one.tokens} == {0}
    assert {one.common for one in found.prompts if one.tokens in set(map(tuple, new))} == {len(SYSTEM) - 1}
