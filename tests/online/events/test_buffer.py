"""The buffer: what it stores, finds, replaces and refuses, on files and file systems of any kind."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given

from online.events.buffer import Buffer, BufferError, RefusedError, masked
from online.events.event import Event
from online.events.writer import BufferWriter
from online.state.directory import StateDir
from tests.online.events.traffic import DAY, EVENTS, NOW, SETTINGS, make, url


def refusal(address: str) -> str:
    with pytest.raises(BufferError) as caught:
        Buffer(address, SETTINGS)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_database_round_trip(buffer: Buffer) -> None:
    @given(event=EVENTS)
    def check(event: Event) -> None:
        assert buffer.append([event]) == 1
        assert buffer.get(event.id) == event

    check()


def test_what_cannot_be_stored_is_mended_or_refused(buffer: Buffer) -> None:
    odd = replace(make(), prompt="a\ud800b\0c", entropy_mean=math.nan, entropies=())
    assert odd.prompt == "a\ufffdb\ufffdc"
    buffer.append([odd])
    stored = buffer.get(odd.id)
    assert stored is not None and math.isnan(stored.entropy_mean) and stored.entropies == ()
    with pytest.raises(ValueError, match="32 bits"):
        replace(make(), prompt_tokens=(2**31,))


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


def test_what_was_committed_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from online.events.buffer import Buffer\n"
        "from tests.online.events.traffic import SETTINGS, make\n"
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
