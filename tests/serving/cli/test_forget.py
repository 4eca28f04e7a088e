"""`sirl forget`; tests/serving/test_forget.py forgets what a version learned from."""

from __future__ import annotations

from dataclasses import replace

from online.events.client import client_hash
from online.operations.installation import Installation
from tests.online.operations.installed import contested
from tests.serving.cli.conftest import Run


def test_clients_and_events_are_forgotten_together(sirl: Run, here: Installation) -> None:
    hers, other, kept = (contested(number) for number in range(3))
    with here.buffer() as buffer:
        buffer.append([replace(hers, client=client_hash("her-key", here.state.client_salt())), other, kept])
    status, out, _ = sirl("forget", "--client", "her-key", "--event", other.id)
    assert (status, out) == (0, "2 events are deleted; no adapter had learned from them.\n")
    with here.buffer() as buffer:
        assert [event.id for event in buffer.events()] == [kept.id]


def test_nobody_is_forgotten_unnamed(sirl: Run) -> None:
    status, out, error = sirl("forget")
    assert (status, out) == (1, "") and "nothing is named to be forgotten" in error
