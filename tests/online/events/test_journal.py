"""The journal: whatever dies on the way, what it acknowledged is there."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest

from online.events.event import Event
from online.events.journal import Journal
from online.state.files import append_durably, write_atomic
from online.state.locks import exclusive
from tests.online.events.traffic import make, until
from tests.online.updates.test_killed import MOST, disturbed, in_a_process

EVENTS = [make(at) for at in range(6)]
GONE = {EVENTS[1].id, EVENTS[4].id}
LEFT = [event.id for event in EVENTS if event.id not in GONE]


def ids(path: Path) -> list[str]:
    """What a later life finds in it."""
    found: list[str] = []

    def store(batch) -> int:
        found.extend(event.id for event in batch)
        return len(batch)

    Journal(path).replay(store, 2)
    return found


def gone(event: Event) -> bool:
    return event.id in GONE


def test_killed_at_any_step_of_taking_events_out_it_keeps_the_others(tmp_path: Path) -> None:
    path, whole, done, step = tmp_path / "journal", [event.id for event in EVENTS], 0, 0
    while not done:
        assert step < MOST
        path.unlink(missing_ok=True)
        Journal(path).append(EVENTS)

        def work(step: int = step) -> None:
            disturbed(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            Journal(path).remove(gone)

        status = in_a_process(work)
        assert status in (0, -signal.SIGKILL)
        done, step = status == 0, step + 1
        found = ids(path)
        assert found in (whole, LEFT), f"killed at step {step - 1} it lost events"
        assert not done or found == LEFT
    assert step > 5


def test_a_disk_that_fails_leaves_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for step in range(1, 12):
        path.unlink(missing_ok=True)
        Journal(path).append(EVENTS)

        def work(step: int = step) -> None:
            def fail() -> None:
                raise OSError(errno.ENOSPC, "full")

            disturbed(step, fail)
            Journal(path).remove(gone)

        in_a_process(work)
        assert ids(path) in ([event.id for event in EVENTS], LEFT)


def test_who_waited_for_a_journal_that_was_replaced_appends_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append_durably(path, b"old\n")
    with exclusive(path):
        thread = threading.Thread(target=append_durably, args=(path, b"appended\n"))
        thread.start()
        until(lambda: Path("/proc/locks").read_text().count("-> FLOCK") > 0)
        write_atomic(path, b"new\n")
    thread.join(10.0)
    assert path.read_bytes() == b"new\nappended\n"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_line_without_its_end_is_kept(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"\n".join(event.to_json().encode() for event in EVENTS) + end)
    assert Journal(path).remove(gone) == [event.id for event in EVENTS if gone(event)]
    assert Journal(path).append([make(9)]) and len(ids(path)) == len(LEFT) + 1
