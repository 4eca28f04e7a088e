"""The writer: events reach the database or the journal, whatever becomes of either."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from online.events.buffer import Buffer
from online.events.journal import Journal
from online.events.writer import BufferWriter
from online.settings.groups import BufferSettings
from online.state.directory import StateDir
from tests.online.events.traffic import NOW, SETTINGS, make, start, stored, until


def test_writer_stores_and_counts(state: StateDir) -> None:
    writer = start(state)
    events = [make(index) for index in range(1000)]
    assert all(writer.offer(event) for event in events)
    assert writer.flush(10.0)
    assert (writer.pending, writer.shed, writer.failing) == (0, 0, False)
    assert writer.size == 1000
    assert writer.close() and not writer.offer(make()) and writer.shed == 1
    assert stored(state) == events


def test_nothing_is_stored_before_it_is_prepared_in_database_or_journal(state: StateDir) -> None:
    in_the_way = state.path / "buffer.sqlite"
    in_the_way.mkdir()
    writer = BufferWriter(
        lambda: Buffer(state.buffer_url, SETTINGS),
        state,
        SETTINGS,
        prepare=lambda events: [replace(event, prompt="<NAME>") for event in events],
        retry_s=0.02,
    )
    writer.offer(make(0))
    assert writer.flush(10.0)
    assert b"prompt 0" not in state.journal_path.read_bytes() and b"<NAME>" in state.journal_path.read_bytes()
    in_the_way.rmdir()
    until(lambda: writer.size == 1)
    writer.offer(make(1))
    assert writer.close()
    assert [event.prompt for event in stored(state)] == ["<NAME>", "<NAME>"]


def test_writer_samples_plain_traffic(state: StateDir) -> None:
    writer, rng = start(state), random.Random(0)
    assert all(writer.wants(verdict, rng) for verdict in ("refusal", "risky", "contested"))
    share = sum(writer.wants("plain", rng) for _ in range(2000)) / 2000
    assert 0.07 < share < 0.13
    writer.close()


def test_database_away_and_back_loses_nothing_and_keeps_order(state: StateDir) -> None:
    writer = start(state)
    away = state.path / "buffer.sqlite"
    events = [make(index) for index in range(30)]
    for event in events[:10]:
        writer.offer(event)
    assert writer.flush(10.0)
    aside = {file: file.with_name(f"aside-{file.name}") for file in state.path.glob("buffer.sqlite*")}
    for file, to in aside.items():
        file.rename(to)
    while not away.is_dir():  # its thread may be about to look for old events, and begin a database anew
        for new in state.path.glob("buffer.sqlite*"):
            new.unlink(missing_ok=True)
        with suppress(FileExistsError):
            away.mkdir()  # in place of the file: nothing can be opened here
    for event in events[10:20]:
        writer.offer(event)
    assert writer.flush(10.0) and writer.failing
    assert state.journal_path.stat().st_size > 0
    with state.journal_path.open("ab") as stream:
        stream.write(b'{"id": "to')  # killed in the middle of a line
    for event in events[20:25]:
        writer.offer(event)
    assert writer.flush(10.0)
    away.rmdir()
    for file, to in aside.items():
        to.rename(file)
    until(lambda: not writer.failing)
    for event in events[25:]:
        writer.offer(event)
    assert writer.close()
    assert state.journal_path.stat().st_size == 0
    assert stored(state) == events


def test_journal_of_an_earlier_life_is_replayed(state: StateDir) -> None:
    events = [make(index) for index in range(3)]
    buffer = Buffer(state.buffer_url, SETTINGS)
    buffer.append(events[:1])  # died after the commit, before the journal was emptied
    buffer.close()
    state.journal_path.write_text("".join(event.to_json() + "\n" for event in events)[:-30])
    writer = start(state)
    until(lambda: state.journal_path.stat().st_size == 0)
    assert writer.close() and stored(state) == events[:2]


def test_with_nowhere_to_write_events_wait_and_new_ones_are_shed(state: StateDir) -> None:
    settings = BufferSettings(queue_size=5, batch_size=2, flush_interval_s=0.01)
    (state.path / "buffer.sqlite").mkdir()
    state.journal_path.mkdir()
    writer = start(state, settings)
    events = [make(index) for index in range(7)]
    assert [writer.offer(event) for event in events] == [True] * 5 + [False] * 2
    until(lambda: writer.failing)
    assert not writer.flush(0.05)
    assert (writer.pending, writer.shed) == (5, 2)
    (state.path / "buffer.sqlite").rmdir()
    assert writer.flush(10.0) and not writer.failing
    state.journal_path.rmdir()
    assert writer.close() and stored(state) == events[:5]


def refuse(state: StateDir, what: str) -> None:
    """Let the database refuse events of which that holds, as one does that they are too long for."""
    Buffer(state.buffer_url, SETTINGS).close()
    connection = sqlite3.connect(state.path / "buffer.sqlite")
    connection.execute(f"create trigger refused before insert on events when {what} begin select raise(abort, 'no'); end")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("away", [False, True])
def test_what_the_database_refuses_does_not_stand_before_the_rest(
    state: StateDir, caplog: pytest.LogCaptureFixture, away: bool
) -> None:
    refuse(state, "new.prompt like '%too long%'")
    events = [replace(make(at), prompt="too long" if at in (7, 8, 90) else f"prompt {at}") for at in range(100)]
    if away:  # it comes by the journal
        Journal(state.journal_path).append(events[:50])
    writer = start(state)
    for event in events[50 * away :]:
        writer.offer(event)
    assert writer.flush(10.0)
    writer.offer(make(100))
    assert writer.flush(10.0) and (writer.refused, writer.shed, writer.failing) == (3, 0, False)
    assert writer.close() and Journal(state.journal_path).empty()
    found = stored(state)
    assert [event.id for event in found[:100]] == [event.id for event in events] and len(found) == 101
    assert [at for at, event in enumerate(found) if not event.prompt_tokens] == [7, 8, 90]
    assert caplog.text.count("refuses what an event holds") == 1 and "too long" not in caplog.text


def test_what_is_refused_without_its_text_too_is_counted_as_lost(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    refuse(state, f"new.time = {NOW + 1}")
    writer = start(state)
    for at in range(3):
        writer.offer(make(at))
    assert writer.flush(10.0) and (writer.refused, writer.shed) == (1, 1) and "lost" in caplog.text
    assert writer.close() and [event.time - NOW for event in stored(state)] == [0, 2]


def test_close_says_what_was_lost(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    (state.path / "buffer.sqlite").mkdir()
    state.journal_path.mkdir()
    writer = start(state)
    writer.offer(make())
    assert not writer.close() and writer.shed == 1
    assert "1 events were lost" in caplog.text


FULL_DISK = """
import resource, sys
from pathlib import Path
from online.state.directory import StateDir
from tests.online.events.traffic import NOW, make, start, stored, until
state = StateDir(Path(sys.argv[1]))
writer = start(state)
writer.offer(make(0))
assert writer.flush(10.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
events = [make(index) for index in range(1, 40)]
assert all(writer.offer(event) for event in events)
until(lambda: writer.failing)
assert not writer.flush(0.1) and writer.pending > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert writer.flush(10.0), "space is back"
until(lambda: not writer.failing)
assert writer.close() and [event.time - NOW for event in stored(state)] == list(range(40))
"""


def test_full_disk_loses_nothing(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_offer_never_waits_for_the_database(state: StateDir) -> None:
    writer = start(state)
    until(lambda: os.path.exists(state.path / "buffer.sqlite") and writer.flush(1.0))
    holder = sqlite3.connect(state.path / "buffer.sqlite")
    holder.execute("begin immediate")
    try:
        begun = time.monotonic()
        assert all(writer.offer(make(index)) for index in range(2000))
        assert time.monotonic() - begun < 4.0  # one that waited would take the busy timeout, five seconds
    finally:
        holder.rollback()
        holder.close()
    assert writer.flush(20.0) and writer.close()
    assert len(stored(state)) == 2000
