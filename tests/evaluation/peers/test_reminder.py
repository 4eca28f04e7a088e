"""Where the reminder stands, and what it leaves."""

import pytest

from evaluation.attacks import Query
from evaluation.peers import defended
from evaluation.peers.reminder import AFTER, BEFORE
from tests.evaluation.peers.simulated import GOAL, Simulated, ask

SYSTEM = {"role": "system", "content": "You sell tickets."}
TALK = tuple({"role": role, "content": text} for role, text in (("user", "Hello."), ("assistant", "Yes?"), ("user", GOAL)))


def heard(spec: str, *messages: dict) -> tuple:
    target = Simulated()
    ask(defended(spec, target), Query(messages))
    return target.asked[0][0].messages


@pytest.mark.parametrize("spec", ["reminder", "reminder:user"])
def test_it_stands_around_what_the_user_says_last(spec):
    said = heard(spec, SYSTEM, *TALK)
    assert said[:3] == (SYSTEM, *TALK[:2])
    assert said[3] == {"role": "user", "content": f"{BEFORE}\n\n{GOAL}\n\n{AFTER}"}


def test_or_in_the_systems_message():
    said = heard("reminder:system", SYSTEM, *TALK)
    assert said == ({"role": "system", "content": f"You sell tickets.\n\n{AFTER}"}, *TALK)
    assert heard("reminder:system", *TALK) == ({"role": "system", "content": AFTER}, *TALK)


def test_what_was_asked_is_left_as_it_was():
    query = Query(TALK)
    ask(defended("reminder", Simulated()), query)
    assert query.messages[-1]["content"] == GOAL
