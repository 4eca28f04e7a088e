"""Rules and the gatekeeper: what is decided from what is measured along a response."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from guard.conformal import Promise
from guard.gatekeeper import Gatekeeper, Move
from guard.openings import Openings
from guard.record import ResponseRecord
from guard.rule import Rule, Score, fit_score
from guard.signals import Signals, log_odds

NAN = math.nan

OPENINGS = Openings(((7,), (1, 2)))


def test_a_score_fits_and_names_unknown_signals():
    rng = np.random.default_rng(1)
    benign, risky = rng.normal(0, 1, (500, 2)), rng.normal([3, 0], 1, (60, 2))
    score = fit_score(("mass", "mean"), risky, benign)
    assert score.weights["mass"] > 5 * abs(score.weights["mean"])
    middle = Signals(mass=1.5, mean=0.0)
    assert abs(score.of(middle)) < 1, "both sides weigh the same, whatever their numbers"
    with pytest.raises(ValueError, match="is no signal"):
        Score({"mood": 1.0})


def test_a_rule_goes_through_json():
    promises = {"plain": Promise(math.inf, 0.01, 0.9, 3)}
    rule = Rule(threshold=0.5, running=Score({"mean": 2.0}, -1.0), running_threshold=3.0, promises=promises)
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule
    assert Rule.from_json(json.loads(json.dumps(Rule().to_json()))) == Rule()


SENSED = Rule(threshold=0.0, sensed=Score({"first": 1.0, "harm": 2.0}, -1.0), sensed_threshold=3.0)


def test_a_rule_with_a_harm_sense_goes_through_json_and_an_older_one_has_none():
    rule = dataclasses.replace(SENSED, sensed_promises={"plain": Promise(3.0, 0.01, 0.9, 300)})
    told = json.loads(json.dumps(rule.to_json()))
    assert Rule.from_json(told) == rule
    older = {name: value for name, value in told.items() if not name.startswith("sensed")}
    assert Rule.from_json(older) == Rule(threshold=0.0)
    assert not any(name.startswith("sensed") for name in Rule(threshold=0.0).to_json())


@pytest.mark.parametrize(
    ("first", "harm", "touched"),
    [
        (1.0, NAN, True),  # nothing was read: the mass alone decides
        (-1.0, NAN, False),
        (1.0, 1.0, False),  # the mass alone would touch it
        (-1.0, 3.0, True),
        (0.0, 2.0, False),  # at the threshold
        (0.0, 2.001, True),
    ],
)
def test_where_harm_was_read_both_decide_and_an_absent_one_is_never_zero(first, harm, touched):
    assert SENSED.touches_opening(Signals(first=first, harm=harm)) is touched


def test_an_answer_that_begins_anew_is_weighed_with_the_harm_of_its_prompt():
    for harm, touched in ((3.0, True), (0.0, False)):
        assert SENSED.touches_anew(Signals(first=-9.0, harm=harm), 0.3) is touched


def test_a_mass_of_the_clients_own_is_compared_with_the_mass_alone():
    rule = SENSED.at(0.5)
    assert rule.touches_opening(Signals(first=0.1, harm=-9.0)) and not rule.touches_opening(Signals(first=-0.1, harm=9.0))
    assert rule.to_json().keys() == Rule().to_json().keys()


def test_a_mass_that_was_not_measured_decides_nothing_though_harm_was_read():
    with pytest.raises(ArithmeticError):
        SENSED.touches_opening(Signals(harm=9.0))


def grown(*rows: tuple[int, float, float]) -> ResponseRecord:
    record = ResponseRecord(OPENINGS)
    record.extend(*zip(*rows, strict=True))
    return record


def test_the_gate_holds_until_the_decision_then_lets_go_or_touches():
    gate = Gatekeeper(Rule(threshold=log_odds(0.5)))
    assert gate.move(grown((1, 1.0, 0.2)), ended=False) is Move.HOLD
    assert gate.move(grown((1, 1.0, 0.8), (9, 1.0, 0.2)), ended=False) is Move.TOUCH
    assert Gatekeeper(gate.rule).move(grown((9, 1.0, 0.2)), ended=False) is Move.RELEASE
    assert Gatekeeper(gate.rule).move(grown((1, 1.0, 0.2)), ended=True) is Move.RELEASE


def test_what_opened_as_a_refusal_is_never_touched():
    gate = Gatekeeper(Rule(threshold=-math.inf, running=Score({"mean": 1.0}), running_threshold=0.0))
    assert gate.move(grown((7, 1.0, 0.9)), ended=False) is Move.RELEASE
    assert gate.move(grown((7, 1.0, 0.9), (3, 9.0, 0.0)), ended=False) is Move.RELEASE


def test_the_running_rule_touches_later():
    gate = Gatekeeper(Rule(running=Score({"mean": 1.0}), running_threshold=2.0))
    record = grown((9, 1.0, 0.1))
    assert gate.move(record, ended=False) is Move.RELEASE
    record.extend([9], [8.0], [0.1])
    assert gate.move(record, ended=False) is Move.TOUCH


def test_a_silent_probe_is_no_decision():
    with pytest.raises(ArithmeticError, match="not measured"):
        Gatekeeper(Rule(threshold=0.0)).move(grown((9, 1.0, NAN)), ended=False)
