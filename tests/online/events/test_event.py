"""An event goes through JSON and back, and its id tells its time."""

from __future__ import annotations

import pytest
from hypothesis import given

from online.events.event import Event, new_event_id
from tests.online.events.traffic import EVENTS, NOW


@given(event=EVENTS)
def test_json_round_trip(event: Event) -> None:
    assert Event.from_json(event.to_json().encode()) == event


def test_ids_sort_by_time_and_differ() -> None:
    ids = [new_event_id(NOW + step / 1000) for step in range(100)]
    assert ids == sorted(ids) and len({new_event_id(NOW) for _ in range(1000)}) == 1000
    assert ids[0][12] == "7" and ids[0][16] in "89ab"


@pytest.mark.parametrize("line", [b'{"id": "x"', b"3", b"{}", b'{"id": 3, "entropies": null}', b"\xff"])
def test_torn_lines_are_value_errors(line: bytes) -> None:
    with pytest.raises(ValueError):
        Event.from_json(line)
