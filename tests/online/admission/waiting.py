"""A queue as tests fill it: events of clients that are known or not."""

from __future__ import annotations

from collections.abc import Sequence

from online.admission.queue import HOUR, Queue
from online.events.buffer import Buffer
from online.events.event import Event
from online.settings.settings import Settings

SALT, MODEL = "salt", "m"
NOW = 1_800_000_000.0
NEW = NOW - HOUR
SETTINGS = Settings()
ADDED = {1, 4}
"""The marks of the template."""


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


def queue(buffer: Buffer, settings: Settings = SETTINGS) -> Queue:
    return Queue.of(buffer, MODEL, NOW, settings, SALT, ADDED)


def fates(found: Queue, tokens: Sequence[Sequence[int]]) -> list[str]:
    by_tokens = {one.tokens: one.fate for one in found.prompts}
    return [by_tokens[tuple(one)] for one in tokens]
