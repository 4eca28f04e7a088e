"""`sirl explain`: the events that taught a version."""

from __future__ import annotations

import json

from online.operations.installation import Installation
from online.training.ledger import Entry, Ledger
from tests.online.registry.adapters import publish, write_adapter
from tests.serving.cli.conftest import Run

LEDGER = Ledger(9.0, (Entry("e1", 1.0, "ann", "p1", "high"), Entry("e2", 2.0, "ben", "p1", "low")))


def test_events_are_counted_and_listed(sirl: Run, here: Installation) -> None:
    with here.registry.stage() as staged:
        LEDGER.save(write_adapter(staged))
        here.registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    first, *lines = sirl("explain", "v1")[1].splitlines()
    assert first == "v1 was taught by 2 events: 1 prompts of 2 clients"
    assert lines[0].split("\t") == ["1970-01-01T00:00:01+00:00", "e1", "client ann", "prompt p1", "high"] and len(lines) == 2
    assert json.loads(sirl("explain", "1", "--json")[1]) == LEDGER.to_dict()


def test_a_version_that_was_not_taught_here_is_said_to_be_none(sirl: Run, here: Installation) -> None:
    publish(here.registry)
    status, out, error = sirl("explain", "v1")
    assert (status, out) == (1, "") and "v1 has no ledger" in error
