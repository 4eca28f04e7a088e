"""Unknown clients, and tokens that a few suddenly send, wait."""

from __future__ import annotations

from online.admission.queue import HOUR, KNOWN, Queue
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash
from online.settings.settings import Settings
from tests.online.admission.waiting import MODEL, NEW, NOW, SALT, SETTINGS, event, fates, queue

OLD = NOW - 30 * HOUR


def ordinary(number: int) -> list[int]:
    """A prompt that shares its frame with all others, and one token with few."""
    return [1, 2, 3, *(100 + (number * step) % 997 for step in (1, 3, 5, 7, 11)), 4, 5]


def known(clients: int = 20, prompts: int = 2 * KNOWN) -> list[Event]:
    """Yesterday's traffic."""
    return [event(number, ordinary(number), OLD + number, f"c{number % clients}") for number in range(prompts)]


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
