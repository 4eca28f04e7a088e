"""What is known of a request and of its answers."""

from __future__ import annotations

import pytest

from guard.policy import Mode, Policy
from guard.record import ResponseRecord
from serving.request.exchange import Exchange, ServedAnswer, number


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_json_cannot_hold_are_null(value):
    assert number(value) is None


@pytest.mark.parametrize(("harm", "told"), [(None, None), (0.0, 0.5), (-2.0, 0.119203), (800.0, 1.0), (-800.0, 0.0)])
def test_how_harmful_the_request_is_is_told_as_a_probability_to_those_who_see_all(harm, told):
    record = ResponseRecord()
    record.harm = harm
    assert ServedAnswer(Exchange(), 0, "base", record).entry()["harm"] == told
    untrusted = Exchange(policy=Policy(Mode.ENFORCE))
    assert "harm" not in ServedAnswer(untrusted, 0, "base", record).entry()
