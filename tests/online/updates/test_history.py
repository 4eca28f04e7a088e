"""What `sirl doctor` tells of what happened: in the order it did, with who and why, and of what is left to do."""

from __future__ import annotations

from pathlib import Path

from online.events.journal import Journal
from online.registry.registry import Registry
from online.state.directory import StateDir
from online.updates.history import TOLD, happened
from online.updates.record import UpdateOutcome, UpdateRecord
from tests.online.events.traffic import make
from tests.online.updates.test_killed import BASE, published


def told(state: StateDir) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in happened(state)]


def test_of_a_new_installation_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert told(StateDir(tmp_path / "state")) == []


def test_changes_to_what_serves_are_told_with_who_and_why(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    registry = Registry(state, BASE)
    version = published(registry)
    registry.activate(version, actor="jo", reason="it passed")
    registry.rollback(actor="release monitor", reason="its logits are NaN")
    found = told(state)
    assert [level for level, _ in found] == ["ok", "ok", "warning"]
    assert "adapter activated, v1 in place of the base, by jo: it passed" in found[1][1]
    assert "adapter rolled back, the base in place of v1, by release monitor: its logits are NaN" in found[2][1]


def test_only_the_newest_are_told_and_a_torn_line_is_owned_up_to(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    registry = Registry(state, BASE)
    version = published(registry)
    for _ in range(TOLD):
        registry.activate(version, actor="jo", reason="again")
    state.audit("admin.denied", path="/guard/v1/queue")  # others' affair
    with state.audit_path.open("a") as log:
        log.write('{"time": "2026-01-01T00:0')
    (torn, said), *rest = told(state)
    assert torn == "warning" and said.startswith("1 lines of ") and len(rest) == TOLD
    assert all("adapter activated" in message for _, message in rest)


def test_what_was_put_aside_is_told_too(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    registry = Registry(state, BASE)
    version = published(registry)
    registry.activate(version, actor="jo", reason="again")
    whole = told(state)
    state.audit_path.rename(tmp_path / "state" / "audit.jsonl.1")
    assert told(state) == whole != []
    registry.rollback(actor="jo", reason="back")
    assert told(state)[: len(whole)] == whole and "rolled back" in told(state)[-1][1]


def test_updates_that_failed_or_were_cut_off_and_events_that_wait(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    job = UpdateRecord.new(state.updates)
    job.progress("learning", 7, 30)
    Journal(state.journal_path).append([make()])
    outcome = UpdateOutcome("u1", "failed", ("The disk is full.",), None, 1.0)
    state.audit("update.finished", id=outcome.id, status=outcome.status, reasons=outcome.reasons, version=None)
    failed, cut, journal = told(state)
    assert failed[0] == "warning" and failed[1].endswith("update u1 ended as failed: The disk is full.")
    assert cut[0] == "warning" and f"{job.id} has no outcome (attempt 1, learning, step 7 of 30, 0 min ago)" in cut[1]
    assert journal[0] == "warning" and "1 KiB of events wait" in journal[1]
    job.finish(outcome)
    assert all(job.id not in message for _, message in told(state))
