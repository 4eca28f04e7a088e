"""What a buffer lets go: by age, by count, and under clocks that are wrong."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from online.events.buffer import Buffer
from online.events.writer import BufferWriter
from online.settings.groups import BufferSettings
from online.state.directory import StateDir
from tests.online.events.traffic import DAY, NOW, SETTINGS, make, start, until, url


def test_prune_by_age_cap_and_count(tmp_path: Path) -> None:
    settings = BufferSettings(max_events=6, plain_max=2, max_age_days=1.0)
    buffer = Buffer(url(tmp_path / "b.sqlite"), settings)
    buffer.append([make(0, when=NOW - 2 * DAY)])
    buffer.append([make(index, "plain" if index % 2 else "uncalibrated") for index in range(4)])
    buffer.append([make(index + 10) for index in range(5)])
    assert buffer.prune(NOW, math.inf) == 1 + 2 + 1
    assert [event.time - NOW for event in buffer.events(newest_first=False)] == [3, 10, 11, 12, 13, 14]
    assert buffer.prune(NOW, math.inf) == 0
    buffer.close()


def test_a_flood_pushes_out_itself(tmp_path: Path) -> None:
    buffer = Buffer(url(tmp_path / "buffer.sqlite"), BufferSettings(max_events=20, max_age_days=1.0))
    buffer.append([replace(make(at), client=f"c{at}") for at in range(10)])
    buffer.append([replace(make(100 + at), client="flood") for at in range(50)])
    assert buffer.prune(NOW + 200, math.inf) == 40
    left = buffer.events()
    assert sum(event.client == "flood" for event in left) == 10 and len({event.client for event in left}) == 11
    assert min(event.time for event in left if event.client == "flood") == NOW + 140
    buffer.close()


def test_what_is_too_old_goes_by_itself(state: StateDir) -> None:
    """The writer prunes what its settings no longer let it keep, and what it is given late never stays."""
    settings = BufferSettings(flush_interval_s=0.01, max_age_days=1.0)
    buffer = Buffer(state.buffer_url, settings)
    buffer.append([make(0, when=time.time() - 2 * DAY), make(1, when=time.time() - DAY / 2)])
    writer = start(state, settings)
    until(lambda: len(buffer.events()) == 1)
    assert writer.close()
    buffer.close()


def aged(path: Path, days: int = 30) -> Buffer:
    """A buffer with an event a day, which keeps them for as many days."""
    buffer = Buffer(url(path), BufferSettings(max_age_days=days))
    buffer.append([make(day, when=time.time() - (day + 0.5) * DAY) for day in range(days)])
    return buffer


@pytest.mark.parametrize("jump", [DAY, 20 * DAY, 365 * DAY, 100 * 365 * DAY])
def test_a_clock_ahead_of_time_for_a_minute_takes_nothing(tmp_path: Path, jump: float) -> None:
    buffer, now = aged(tmp_path / "b.sqlite"), time.time()
    dropped = buffer.prune(now + jump, 0.0) + buffer.prune(now + jump + 60, 60.0) + buffer.prune(now + 120, 60.0)
    assert dropped == 0 and len(buffer.events()) == 30
    assert buffer.first_seen(), "nor are clients forgotten"
    buffer.close()


def test_a_clock_that_is_wrong_for_hours_takes_in_proportion(tmp_path: Path) -> None:
    buffer, now = aged(tmp_path / "b.sqlite"), time.time()
    for minute in range(120):
        buffer.prune(now + 365 * DAY + 60 * minute, 60.0)
    assert 26 <= len(buffer.events()) <= 29
    for minute in range(120, 240):
        buffer.prune(now + 60 * minute, 60.0)
    assert 26 <= len(buffer.events()) <= 29, "set right it is as it ever was"
    buffer.close()


def test_what_became_too_old_while_nobody_ran_goes_within_a_day_a_month(tmp_path: Path) -> None:
    buffer, later = aged(tmp_path / "b.sqlite"), time.time() + 40 * DAY
    for hour in range(41):
        buffer.prune(later + 3600 * hour, 3600.0)
    assert not buffer.events() and not buffer.first_seen()
    buffer.close()


def test_a_server_started_with_a_wrong_clock_takes_nothing(state: StateDir) -> None:
    buffer = Buffer(state.buffer_url, BufferSettings())
    buffer.append([make(day, when=time.time() - (day + 0.5) * DAY) for day in range(30)])
    writer = BufferWriter(
        partial(Buffer, state.buffer_url, SETTINGS), state, SETTINGS, clock=lambda: time.time() + 365 * DAY
    )
    writer.offer(make(99))
    assert writer.flush(10.0) and writer.close() and len(buffer.events()) == 31
    buffer.close()
