"""Forgetting from end to end, where no version learned of it; tests/online/updates/test_forget.py has those that did."""

from __future__ import annotations

from dataclasses import replace

from online.events.client import client_hash
from online.operations.forgetting import forget
from online.operations.installation import Installation
from tests.online.operations.installed import contested


def test_what_a_client_sent_is_gone_and_what_others_sent_is_not(here: Installation) -> None:
    hers = client_hash("her-key", here.state.client_salt())
    events = [contested(number) for number in range(4)]
    with here.buffer() as buffer:
        buffer.append([replace(event, client=hers) for event in events[:2]] + events[2:])
    assert list(forget(here, ["her-key"], [events[3].id])) == ["3 events are deleted; no adapter had learned from them."]
    with here.buffer() as buffer:
        assert [event.id for event in buffer.events()] == [events[2].id]
        assert buffer.append([replace(events[0], client=hers)]) == 0, "what comes late does not come in"
