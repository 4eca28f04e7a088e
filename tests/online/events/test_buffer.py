import math
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_mock_engine
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from online.events import schema
from online.events.buffer import Buffer, BufferError, RefusedError, masked
from online.events.client import client_hash
from online.events.event import Event, new_event_id
from online.events.journal import Journal
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


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    opened = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    yield opened
    opened.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def refusal(address: str) -> str:
    with pytest.raises(BufferError) as caught:
        Buffer(address, SETTINGS)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


# Events


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


@given(event=EVENTS)
def test_json_round_trip(event: Event) -> None:
    assert Event.from_json(event.to_json().encode()) == event


def test_database_round_trip(buffer: Buffer) -> None:
    @given(event=EVENTS)
    def check(event: Event) -> None:
        assert buffer.append([event]) == 1
        assert buffer.get(event.id) == event

    check()


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_event_id(NOW + step / 1000) for step in range(100)]
    assert ids == sorted(ids) and len({new_event_id(NOW) for _ in range(1000)}) == 1000
    assert ids[0][12] == "7" and ids[0][16] in "89ab"


def test_what_cannot_be_stored_is_mended_or_refused(buffer: Buffer) -> None:
    odd = replace(make(), prompt="a\ud800b\0c", entropy_mean=math.nan, entropies=())
    assert odd.prompt == "a\ufffdb\ufffdc"
    buffer.append([odd])
    stored = buffer.get(odd.id)
    assert stored is not None and math.isnan(stored.entropy_mean) and stored.entropies == ()
    with pytest.raises(ValueError, match="32 bits"):
        replace(make(), prompt_tokens=(2**31,))


@pytest.mark.parametrize("line", [b'{"id": "x"', b"3", b"{}", b'{"id": 3, "entropies": null}', b"\xff"])
def test_torn_lines_are_value_errors(line: bytes) -> None:
    with pytest.raises(ValueError):
        Event.from_json(line)


def test_client_hash() -> None:
    assert len(client_hash("key", "salt")) == 32
    assert len({client_hash("key", "salt"), client_hash("key", "pepper"), client_hash("yek", "salt")}) == 3


# Buffer


def test_queries(buffer: Buffer) -> None:
    events = [make(index, verdict) for index, verdict in enumerate(["plain", "risky", "contested", "refusal"])]
    assert buffer.append(events) == 4
    assert buffer.append([*events, make(9)]) == 1, "ids that are there are skipped"
    assert [event.time - NOW for event in buffer.events()] == [9, 3, 2, 1, 0]
    assert buffer.events(since=NOW + 1, until=NOW + 3, newest_first=False) == events[1:3]
    assert buffer.events(verdicts=["plain"], limit=3) == events[:1]
    assert buffer.events(adapter="v1") == [] == buffer.events(model="other")
    assert buffer.counts() == {"plain": 1, "risky": 1, "contested": 2, "refusal": 1}
    assert buffer.contested_since(NOW + 1, "") == 2 and buffer.contested_since(NOW + 1, "other") == 0
    assert buffer.delete([events[0].id, "none"]) == 1 and buffer.get(events[0].id) is None


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


def test_what_was_committed_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from tests.online.events.test_buffer import *\n"
        "Buffer(sys.argv[1], SETTINGS).append([make()]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    address = url(tmp_path / "b.sqlite")
    assert subprocess.run([sys.executable, "-c", code, address], check=False).returncode == -9
    buffer = Buffer(address, SETTINGS)
    assert len(buffer.events()) == 1
    buffer.close()


def test_two_openers_at_once(tmp_path: Path) -> None:
    opened: list[Buffer] = []
    threads = [
        threading.Thread(target=lambda: opened.append(Buffer(url(tmp_path / "b.sqlite"), SETTINGS))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for buffer in opened:
        buffer.append([make()])
        buffer.close()


def test_bad_urls() -> None:
    assert "no database URL" in refusal("not a url")
    assert "driver" in refusal("nonesuch://user:hunter2@host/name")
    assert "hunter2" not in refusal("nonesuch://user:hunter2@host/name")
    assert "forget" in refusal("sqlite://")
    assert "unable to open" in refusal("sqlite:////nonexistent/buffer.sqlite")
    assert "hunter2" not in masked("postgresql://u:hunter2@h/d?sslpassword=hunter2")
    assert "hunter2" not in masked("!://u:hunter2@h")


def test_foreign_and_corrupt_files(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no database at all" * 100)
    assert "corrupt: move it away" in refusal(url(tmp_path / "junk"))
    for name, script, wanted in (
        ("other", "create table events (x)", "not sirl's"),
        ("newer", "create table meta (key, value); insert into meta values ('schema', '9')", "has schema 9"),
    ):
        connection = sqlite3.connect(tmp_path / name)
        connection.executescript(script)
        connection.close()
        assert wanted in refusal(url(tmp_path / name))


def test_a_database_of_the_schema_before_is_brought_up_to_date(tmp_path: Path, buffer: Buffer) -> None:
    event = make(0)
    buffer.append([event])
    connection = sqlite3.connect(tmp_path / "buffer.sqlite")
    connection.executescript(
        "alter table events drop column block; drop table reviews; drop table clients;"
        "update meta set value = '2' where key = 'schema'"
    )
    connection.close()
    opened = [Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS) for _ in range(2)]
    assert opened[0].first_seen() == {"c": NOW}
    assert opened[0].get(event.id) == event and event.block == ""
    later = replace(make(1), block="b")
    opened[1].append([later])
    opened[1].review("prompt", ["a" * 32], "approved")
    assert opened[0].get(later.id) == later and opened[0].reviews("prompt") == {"a" * 32: "approved"}
    for one in opened:
        one.close()


def test_the_tables_hold_the_longest_event_in_mysql_too() -> None:
    """Its TEXT and BLOB end at 64 KiB."""
    for dialect in (mysql.dialect(), create_mock_engine("mariadb+pymysql://", None).dialect):
        made = str(CreateTable(schema.events).compile(dialect=dialect))
        columns = {line.split()[0]: line.split()[1].rstrip(",") for line in made.splitlines() if line.startswith("\t")}
        assert {columns[name] for name in ("prompt", "response")} == {"LONGTEXT"}
        assert {columns[name] for name in ("prompt_tokens", "response_tokens", "entropies")} == {"LONGBLOB"}


def test_no_statement_is_larger_than_mysql_takes_and_an_event_that_is_is_refused() -> None:
    rows = [schema.row(replace(make(at), prompt="ü" * 400)) for at in range(10)]
    groups = list(schema.by_size(rows, 2000))
    assert [row for group in groups for row in group] == rows and [len(group) for group in groups] == [2] * 5
    assert list(schema.by_size(rows, math.inf)) == [rows] and not list(schema.by_size([], 1))
    with pytest.raises(OverflowError):
        list(schema.by_size(rows, 800))


def test_a_database_of_the_third_schema_ages_on_from_its_oldest_event(tmp_path: Path, buffer: Buffer) -> None:
    buffer.append([make(0, when=NOW - 100 * DAY), make(1)])
    connection = sqlite3.connect(tmp_path / "buffer.sqlite")
    connection.executescript(
        "drop table forgotten; delete from meta where key = 'cutoff'; update meta set value = '3' where key = 'schema'"
    )
    connection.close()
    opened = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    assert opened.prune(NOW, 0.0) == 0, "what was to be kept until now is gone at the pace of the clock, not at once"
    assert opened.prune(NOW, 3600.0) == 1
    opened.bury(["c"], [], NOW)
    opened.close()


def test_reviews_replace_one_another_and_are_taken_back(buffer: Buffer) -> None:
    buffer.review("prompt", ["a", "b"], "approved")
    buffer.review("prompt", ["b"], "excluded")
    buffer.review("client", ["a"], "excluded")
    assert buffer.reviews("prompt") == {"a": "approved", "b": "excluded"} and buffer.reviews("client") == {"a": "excluded"}
    buffer.review("prompt", ["a", "c"], None)
    assert buffer.reviews("prompt") == {"b": "excluded"}


def test_clients_are_known_from_their_first_event_on(buffer: Buffer) -> None:
    buffer.append([replace(make(at), client=client) for at, client in enumerate("abab")])
    assert buffer.first_seen() == {"a": NOW, "b": NOW + 1}
    buffer.delete([event.id for event in buffer.events()])
    buffer.append([replace(make(9), client="a")])
    assert buffer.first_seen() == {"a": NOW, "b": NOW + 1}
    buffer.prune(NOW + 31 * DAY, math.inf)
    assert buffer.first_seen() == {} and buffer.events() == []
    buffer.append([make(5)])
    buffer.unsee(["c"])
    assert buffer.first_seen() == {}


def test_a_flood_pushes_out_itself(tmp_path: Path) -> None:
    buffer = Buffer(url(tmp_path / "buffer.sqlite"), BufferSettings(max_events=20, max_age_days=1.0))
    buffer.append([replace(make(at), client=f"c{at}") for at in range(10)])
    buffer.append([replace(make(100 + at), client="flood") for at in range(50)])
    assert buffer.prune(NOW + 200, math.inf) == 40
    left = buffer.events()
    assert sum(event.client == "flood" for event in left) == 10 and len({event.client for event in left}) == 11
    assert min(event.time for event in left if event.client == "flood") == NOW + 140
    buffer.close()


def test_an_event_is_replaced_where_it_is_there(buffer: Buffer) -> None:
    event, gone = make(0), make(1)
    buffer.append([event])
    buffer.replace([replace(event, prompt="<NAME>", prompt_tokens=(9,)), gone])
    assert buffer.events() == [replace(event, prompt="<NAME>", prompt_tokens=(9,))]


def test_an_encrypted_file_is_opened_by_its_passphrase_alone(tmp_path: Path) -> None:
    """SQLCipher, by the extra `encryption`."""
    address = f"sqlite+pysqlcipher://:a-long-passphrase@/{tmp_path / 'buffer.sqlite'}"
    for index in range(2):
        buffer = Buffer(address, SETTINGS)
        buffer.append([make(index)])
        assert len(buffer.events()) == index + 1
        buffer.close()
    assert b"prompt" not in (tmp_path / "buffer.sqlite").read_bytes()
    assert "its passphrase is another one" in refusal(address.replace("a-long", "another"))
    assert "passphrase" not in masked(address)


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


def test_what_a_wrong_clock_put_into_the_future_starts_no_update(buffer: Buffer) -> None:
    buffer.append([make(0), make(1, when=NOW + 365 * DAY)])
    assert buffer.contested_since(NOW - 1, "", NOW + 60) == 1 and buffer.contested_since(NOW + 1, "", NOW + 60) == 0


def test_on_a_network_file_system_there_is_no_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mode() -> tuple[str, int]:
        with buffer._engine.connect() as connection:
            pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        return str(pragmas[0]), int(pragmas[1] or 0)

    buffer = Buffer(url(tmp_path / "b.sqlite"), SETTINGS)
    assert mode() == ("wal", 1) and not buffer.remark
    buffer.append([make(0)])
    buffer.close()
    monkeypatch.setattr("online.events.buffer.kind", lambda path: "nfs4" if path == tmp_path else "ext4")
    for _ in range(2):
        buffer = Buffer(url(tmp_path / "b.sqlite"), SETTINGS)
        assert mode() == ("delete", 2) and "network file system (nfs4)" in buffer.remark and buffer.remark.endswith(".")
        assert not list(tmp_path.glob("*-wal")) and len(buffer.events()) == 1
        buffer.close()
    writer = BufferWriter(partial(Buffer, url(tmp_path / "b.sqlite"), SETTINGS), StateDir(tmp_path), SETTINGS)
    writer.offer(make(1))
    assert writer.flush(10.0) and writer.remark == buffer.remark and writer.close()
    monkeypatch.undo()
    buffer = Buffer(url(tmp_path / "b.sqlite"), SETTINGS)
    assert mode() == ("delete", 2) and not buffer.remark and len(buffer.events()) == 2
    buffer.close()


def test_a_deleted_file_is_begun_anew(tmp_path: Path, buffer: Buffer) -> None:
    buffer.append([make(0)])
    for file in tmp_path.glob("buffer.sqlite*"):
        file.unlink()
    buffer.append([make(1)])
    fresh = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    assert [event.time for event in fresh.events()] == [NOW + 1]
    fresh.close()


# BufferWriter


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


def start(state: StateDir, settings: BufferSettings = SETTINGS) -> BufferWriter:
    return BufferWriter(lambda: Buffer(state.buffer_url, settings), state, settings, retry_s=0.02)


def stored(state: StateDir) -> list[Event]:
    buffer = Buffer(state.buffer_url, SETTINGS)
    try:
        return buffer.events(newest_first=False)
    finally:
        buffer.close()


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


def test_a_database_that_is_full_refuses_no_single_event(state: StateDir) -> None:
    """What it cannot take now it may take later: nothing loses its text for it."""
    buffer = Buffer(state.buffer_url, SETTINGS)
    with buffer._engine.connect() as held:
        held.exec_driver_sql(f"PRAGMA max_page_count={held.exec_driver_sql('PRAGMA page_count').scalar()}")
        held.exec_driver_sql("PRAGMA busy_timeout=1")
    with pytest.raises(BufferError, match="free some space") as found:
        buffer.append([replace(make(0), prompt="x" * 100_000)])
    assert not isinstance(found.value, RefusedError)
    buffer.close()


def test_close_says_what_was_lost(state: StateDir, caplog: pytest.LogCaptureFixture) -> None:
    (state.path / "buffer.sqlite").mkdir()
    state.journal_path.mkdir()
    writer = start(state)
    writer.offer(make())
    assert not writer.close() and writer.shed == 1
    assert "1 events were lost" in caplog.text


FULL_DISK = """
import resource, sys
from tests.online.events.test_buffer import *
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
