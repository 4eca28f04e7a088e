"""What waits to be learned from, and what is kept from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.admission.near_duplicates import jaccard, shingles, without_near_duplicates
from online.admission.queue import HOUR, KNOWN, PROMPT_TOKENS, Queue, distinct
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash
from online.settings.groups import BufferSettings
from online.settings.settings import Settings

SALT, MODEL = "salt", "m"
NOW = 1_800_000_000.0
OLD = NOW - 30 * HOUR
NEW = NOW - HOUR
SETTINGS = Settings()


def event(number: int, tokens: Sequence[int], when: float = NEW, client: str = "c", block: str = "") -> Event:
    return Event(
        f"{number:032x}",
        when,
        "base",
        "plain",
        "p",
        tuple(tokens),
        "r",
        (1,),
        (0.1,),
        0.1,
        None,
        "stop",
        client,
        MODEL,
        block,
    )


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(f"sqlite:///{tmp_path / 'buffer.sqlite'}", BufferSettings())
    yield opened
    opened.close()


def ordinary(number: int) -> list[int]:
    """A prompt that shares its frame with all others, and one token with few."""
    return [1, 2, 3, *(100 + (number * step) % 997 for step in (1, 3, 5, 7, 11)), 4, 5]


def known(clients: int = 20, prompts: int = 2 * KNOWN) -> list[Event]:
    """Yesterday's traffic."""
    return [event(number, ordinary(number), OLD + number, f"c{number % clients}") for number in range(prompts)]


def queue(buffer: Buffer, settings: Settings = SETTINGS) -> Queue:
    return Queue.of(buffer, MODEL, NOW, settings, SALT)


def fates(found: Queue, tokens: Sequence[Sequence[int]]) -> list[str]:
    by_tokens = {one.tokens: one.fate for one in found.prompts}
    return [by_tokens[tuple(one)] for one in tokens]


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


def test_the_first_of_two_alike_counts_though_a_third_asks_it_again(buffer: Buffer) -> None:
    long = list(range(40))
    near = [*long[:20], 99, *long[21:]]
    buffer.append([event(0, long, NEW, "a"), event(1, near, NEW + 1, "b"), event(2, long, NEW + 2, "c")])
    assert fates(queue(buffer), [long, near]) == ["queued", "duplicate"]


def test_a_prompt_that_nearly_repeats_an_earlier_one_counts_once(buffer: Buffer) -> None:
    long = list(range(40))
    near, far = [*long[:20], 99, *long[21:]], [*long[:20], *range(200, 220)]
    buffer.append([event(0, long, NEW), event(1, near, NEW + 1), event(2, far, NEW + 2)])
    assert fates(queue(buffer), [long, near, far]) == ["queued", "duplicate", "queued"]
    lenient = Settings(queue={"similarity": 1.0})
    assert fates(queue(buffer, lenient), [long, near, far]) == ["queued"] * 3
    buffer.review("prompt", [prompt_hash(tuple(near), SALT)], "approved")
    assert fates(queue(buffer), [long, near]) == ["duplicate", "approved"]


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12).map(tuple), min_size=1, max_size=12, unique=True))
def test_what_is_kept_is_unlike_each_other_and_what_is_not_is_like_one_of_it(prompts: list[tuple[int, ...]]) -> None:
    events = [event(at, tokens, NEW + at) for at, tokens in enumerate(prompts)]
    found = without_near_duplicates(distinct(events, SALT), 0.8, SALT)
    kept = {one.prompt: shingles(one.tokens) for one in found if one.fate == "queued"}
    assert len(found) == len(prompts) and found[0].fate == "queued"
    for one in found:
        if one.fate == "duplicate":
            assert jaccard(shingles(one.tokens), kept[one.why.removeprefix("of ")]) >= 0.8
    pairs = [(a, b) for name, a in kept.items() for other, b in kept.items() if name < other]
    assert all(jaccard(a, b) < 0.8 for a, b in pairs)


def test_unknown_clients_wait_and_who_is_known_vouches_for_the_same_prompt(buffer: Buffer) -> None:
    asked = [[7000, 7001], [7002, 7003], [7004, 7005]]
    buffer.append(known())
    buffer.append([event(900, asked[0], NEW, "stranger"), event(901, asked[1], NEW, "c1")])
    buffer.append([event(902, asked[2], NEW, "stranger"), event(903, asked[2], NEW, "c2")])
    assert fates(queue(buffer), asked) == ["unknown", "queued", "queued"]
    later = Queue.of(buffer, MODEL, NEW + 24 * HOUR + 1, SETTINGS, SALT)
    assert fates(later, asked) == ["queued"] * 3
    buffer.review("prompt", [prompt_hash(tuple(asked[0]), SALT)], "approved")
    assert fates(queue(buffer), asked[:1]) == ["approved"]
    assert fates(queue(buffer, Settings(queue={"quarantine_hours": 0})), asked[1:]) == ["queued"] * 2


def test_fresh_clients_neither_vouch_for_a_flood_nor_take_it_off_its_senders_quota(buffer: Buffer) -> None:
    """A known client sends each of its prompts again under names that nobody knew."""
    flood = [[*ordinary(300 + at)[:6], 9999, *ordinary(301 + at)[6:]] for at in range(12)]
    other = [[5000 + at, 6000 + at] for at in range(12)]
    buffer.append(known())
    for at, tokens in enumerate([*flood, *other]):
        buffer.append([event(900 + at, tokens, NEW, "c1", "b"), event(950 + at, tokens, NEW + 1, f"fresh{at}", f"b{at}")])
    found = queue(buffer)
    assert set(fates(found, flood)) <= {"sudden", "duplicate"}
    assert all(one.senders == {("c1", "b")} for one in found.prompts if one.tokens in set(map(tuple, other)))


def test_clients_are_known_though_their_events_are_gone(buffer: Buffer) -> None:
    buffer.append(known())
    buffer.delete([one.id for one in buffer.events() if one.client == "c1"])
    buffer.append([event(900, [7000, 7001], NEW, "c1"), event(901, [7002, 7003], NEW, "stranger")])
    assert fates(queue(buffer), [[7000, 7001], [7002, 7003]]) == ["queued", "unknown"]


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.97, 0.999, 1.0])
def test_any_similarity_can_be_asked_for(buffer: Buffer, similarity: float) -> None:
    buffer.append([event(0, [1, 2, 3]), event(1, [1, 2, 4]), event(2, [9])])
    assert queue(buffer, Settings(queue={"similarity": similarity})).counts()["queued"] >= 1


def test_a_token_that_a_few_clients_suddenly_send_waits_and_a_crowd_does_not(buffer: Buffer) -> None:
    flood = [[*ordinary(300 + at)[:6], 9999, *ordinary(301 + at)[6:]] for at in range(12)]
    buffer.append(known())
    buffer.append([event(900 + at, tokens, NEW, f"c{at % 3}") for at, tokens in enumerate(flood)])
    buffer.append([event(950 + at, ordinary(350 + at), NEW, f"c{at % 20}") for at in range(20)])
    found = queue(buffer)
    assert set(fates(found, flood)) <= {"sudden", "duplicate"}
    assert all(one.token == 9999 for one in found.prompts if one.fate == "sudden")
    buffer.append([event(980 + at, tokens, NEW + 1, f"c{at}") for at, tokens in enumerate(flood)])
    assert "sudden" not in fates(queue(buffer), flood)


def test_without_a_past_there_is_nothing_to_be_sudden_against(buffer: Buffer) -> None:
    buffer.append(known(prompts=KNOWN - 10))
    asked = [[7000, 7001], [7002, 7003]]
    buffer.append([event(900 + at, tokens, NEW, "stranger") for at, tokens in enumerate(asked)])
    assert fates(queue(buffer), asked) == ["queued"] * 2
