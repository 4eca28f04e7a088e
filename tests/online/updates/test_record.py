"""The record of an update: what a kill leaves is gone on with, and given up in the end."""

from __future__ import annotations

import json
from pathlib import Path

from online.updates.record import ATTEMPTS, UpdateOutcome, UpdateRecord


def test_one_that_has_no_outcome_is_gone_on_with_and_counted(tmp_path: Path) -> None:
    first = UpdateRecord.new(tmp_path)
    assert (first.attempt, first.given_up, first.cutoff) == (1, False, first.started)
    again = UpdateRecord.open(tmp_path)
    assert (again.id, again.attempt, again.started) == (first.id, 2, first.started)
    for _ in range(ATTEMPTS - 1):
        again = UpdateRecord.open(tmp_path)
    assert again.given_up
    again.finish(UpdateOutcome(again.id, "failed", ("It was killed.",), None, 1.0))
    assert UpdateRecord.open(tmp_path).id != first.id


def test_what_it_claims_is_kept_and_another_begins_where_it_is_discarded(tmp_path: Path) -> None:
    record = UpdateRecord.new(tmp_path, until=5.0).claim("sha256:a", 3)
    assert UpdateRecord.open(tmp_path).key == "sha256:a" and record.cutoff == 5.0
    assert UpdateRecord.open(tmp_path).threads == 3
    other = record.discard()
    assert other.threads is None
    assert not record.folder.exists() and (other.key, other.until, other.attempt) == (None, 5.0, 1)


def test_its_end_is_on_record_and_its_checkpoint_goes(tmp_path: Path) -> None:
    record = UpdateRecord.new(tmp_path)
    record.checkpoint.write_bytes(b"weights")
    record.progress("learning", 3, 12, eta=4.5)
    told = json.loads((record.folder / "progress.json").read_text())
    assert (told["stage"], told["step"], told["total"], told["eta_seconds"]) == ("learning", 3, 12, 4.5)
    outcome = UpdateOutcome(record.id, "promoted", ("It is better.",), 2, 9.0)
    record.finish(outcome)
    assert not record.checkpoint.exists() and record.folder.stat().st_mode & 0o077 == 0
    assert json.loads((record.folder / "outcome.json").read_text()) == {
        "id": record.id, "status": "promoted", "reasons": ["It is better."], "version": 2, "seconds": 9.0,
    }  # fmt: skip
