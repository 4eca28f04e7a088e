"""Signals, rule, policy and gatekeeper: what is measured along a response and what is decided from it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.conformal import Promise
from guard.gatekeeper import Gatekeeper, Move
from guard.openings import Openings
from guard.policy import Action, Leeway, Mode, Policy, PolicyError
from guard.record import ResponseRecord
from guard.rule import Rule, Score, fit_score
from guard.signals import Signals, log_odds

OPENINGS = Openings(((7,), (1, 2)))
NAN = math.nan


@given(st.lists(st.floats(0, 12), min_size=1, max_size=40))
def test_signals_are_their_definitions(entropies):
    signals = Signals()
    for entropy in entropies:
        signals.step(entropy, NAN, decided=True)
    assert signals.mean == pytest.approx(np.mean(entropies)) and signals.max == max(entropies)
    slope = np.polyfit(range(len(entropies)), entropies, 1)[0] if len(entropies) > 1 else 0.0
    assert signals.slope == pytest.approx(slope, abs=1e-9)


def test_mass_is_the_decisions_and_along_the_largest_after_it():
    signals = Signals()
    for mass, decided in ((0.2, False), (0.6, False), (0.1, True), (0.3, True), (NAN, True), (0.2, True)):
        signals.step(1.0, mass, decided=decided)
    assert signals.first == log_odds(0.2) and signals.mass == log_odds(0.6) and signals.along == log_odds(0.3)


def test_log_odds_are_finite_at_the_ends_and_nan_stays():
    assert log_odds(0.0) == pytest.approx(-log_odds(1.0)) and math.isfinite(log_odds(1.0)) and math.isnan(log_odds(NAN))


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


ENFORCED = Policy(Mode.ENFORCE, threshold=0.5)


@pytest.mark.parametrize(
    ("policy", "asked", "result"),
    [
        (Policy(), (Mode.ENFORCE, Action.REGENERATE, 0.2), Policy(Mode.ENFORCE, Action.REGENERATE, 0.2)),
        (ENFORCED, (None, None, 0.3), Policy(Mode.ENFORCE, threshold=0.3)),
        (ENFORCED, (Mode.ENFORCE, Action.HALT, 0.5), ENFORCED),
        (Policy(Mode.ENFORCE, leeway=Leeway.ANYTHING), (Mode.OBSERVE, None, None), Policy(leeway=Leeway.ANYTHING)),
        (ENFORCED, (Mode.OBSERVE, None, None), None),
        (ENFORCED, (None, Action.REGENERATE, None), None),
        (ENFORCED, (None, None, 0.6), None),
        (Policy(Mode.ENFORCE), (None, None, 0.99), None),
        (Policy(leeway=Leeway.NOTHING), (Mode.ENFORCE, None, None), None),
    ],
)
def test_requests_change_their_policy_as_far_as_the_operator_allows(policy, asked, result):
    if result is not None:
        assert policy.asked(*asked) == result
        return
    with pytest.raises(PolicyError, match="leave (it|them) out"):
        policy.asked(*asked)
