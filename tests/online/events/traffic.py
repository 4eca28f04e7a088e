"""Events as tests make them, and the buffer and the writer that take them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from online.events.buffer import Buffer
from online.events.event import Event, new_event_id
from online.events.writer import BufferWriter
from online.settings.groups import BufferSettings
from online.state.directory import StateDir

DAY = 86_400.0
NOW = 1_800_000_000.0
SETTINGS = BufferSettings(flush_interval_s=0.01)


def make(index: int = 0, verdict: str = "contested", when: float | None = None) -> Event:
    moment = NOW + index if when is None else when
    return Event(
        id=new_event_id(moment),
        time=moment,
        adapter="base",
        verdict=verdict,
        prompt=f"prompt {index}",
        prompt_tokens=(1, 2),
        response="response",
        response_tokens=(3, index),
        entropies=(0.5, 0.25),
        entropy_mean=0.375,
        refusal_mass=None,
        finish_reason="stop",
        client="c",
    )


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


TOKENS = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5).map(tuple)
EVENTS = st.builds(
    Event,
    id=st.floats(0, 1e10).map(new_event_id),
    time=st.floats(0, 1e10),
    adapter=st.sampled_from(["base", "v3"]),
    verdict=st.sampled_from(["refusal", "plain"]),
    prompt=st.text(),
    prompt_tokens=TOKENS,
    response=st.text(st.characters(categories=None)),
    response_tokens=TOKENS,
    entropies=st.lists(st.floats(0, 20), max_size=5).map(tuple),
    entropy_mean=st.floats(0, 20),
    refusal_mass=st.none() | st.floats(0, 1),
    finish_reason=st.sampled_from(["stop", "length"]),
    client=st.text("0123456789abcdef", min_size=32, max_size=32),
    block=st.text("0123456789abcdef", min_size=32, max_size=32),
)


def start(state: StateDir, settings: BufferSettings = SETTINGS) -> BufferWriter:
    return BufferWriter(lambda: Buffer(state.buffer_url, settings), state, settings, retry_s=0.02)


def stored(state: StateDir) -> list[Event]:
    buffer = Buffer(state.buffer_url, SETTINGS)
    try:
        return buffer.events(newest_first=False)
    finally:
        buffer.close()
