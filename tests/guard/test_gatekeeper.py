"""The gate behind the decision: what a forced, moved or turned opening is worth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from guard.gatekeeper import Gatekeeper, Move
from guard.openings import Openings
from guard.reasoning import Reasoning
from guard.record import ResponseRecord
from guard.rule import Rule, Score
from guard.signals import log_odds
from tests.guard.test_beginnings import COLON, KNOWN, LINE, STOP, TREE, WORD

RULE = Rule(threshold=log_odds(0.5))
REFUSAL = (30, 0.9)


def moves(*rows: tuple[int, float], steered: bool = False, ended: bool = False) -> list[Move]:
    """The gate's move after each (token, mass)."""
    record, gate, made = ResponseRecord(TREE, KNOWN, steered), Gatekeeper(RULE), []
    for at, (token, mass) in enumerate(rows):
        record.extend([token], [1.0], [mass])
        made.append(gate.move(record, ended=ended and at == len(rows) - 1))
        if made[-1] is Move.TOUCH:
            break
    return made


def test_what_leads_up_to_an_answer_is_held_and_not_judged():
    assert moves((LINE, 0.0), (1, 0.0), (LINE, 0.0), (WORD, 0.9)) == [Move.HOLD] * 3 + [Move.TOUCH]
    assert moves((LINE, 0.0), (LINE, 0.0), ended=True)[-1] is Move.EMPTY
    record = ResponseRecord(TREE, KNOWN)
    record.extend([LINE, WORD], [5.0, 1.0], [0.9, 0.2])
    assert record.refusal_mass == 0.2 and record.entropy_mean == 1.0 and record.reasoned == 1


def test_a_reasoning_is_one_though_its_marks_are_blank_too():
    tree = Openings(((30,),), reasoning=Reasoning(60, 61, frozenset({LINE})))
    record = ResponseRecord(tree, replace(KNOWN, blank=KNOWN.blank | {60, 61}))
    record.extend([60, WORD, WORD], [1.0] * 3, [0.9] * 3)
    assert record.thinking and record.refusal_mass is None
    record.extend([61, LINE, WORD], [1.0] * 3, [0.9, 0.8, 0.2])
    assert not record.thinking and record.reasoned == 5 and record.refusal_mass == 0.2


def test_an_answer_that_ends_at_once_is_decided_there():
    """The mark that ends its turn is its end, and what goes on behind it is weighed again."""
    assert moves((2, 0.1), ended=True) == [Move.RELEASE] and moves((2, 0.9), ended=True) == [Move.TOUCH]
    assert moves((2, 0.1), (LINE, 0.0), (1, 0.0), (5, 0.0), (LINE, 0.0), (WORD, 0.9))[-1] is Move.TOUCH
    record = ResponseRecord(TREE, KNOWN)
    record.extend([2], [0.5], [0.1])
    assert record.refusal_mass == 0.1 and not record.thinking


def test_refusing_is_weighed_behind_a_demanded_beginning():
    assert moves((WORD, 0.0), (COLON, 0.0), (WORD, 0.9)) == [Move.RELEASE, Move.RELEASE, Move.TOUCH]
    assert moves((WORD, 0.0), (COLON, 0.0), (WORD, 0.1)) == [Move.RELEASE] * 3
    assert moves((WORD, 0.0), (COLON, 0.0), REFUSAL, (WORD, 0.9))[-1] is Move.RELEASE


def test_what_may_become_a_refusal_is_held_until_it_is_one_or_is_not():
    begun = ((WORD, 0.0), (COLON, 0.0), (21, 0.9))
    assert moves(*begun)[-1] is Move.HOLD and moves(*begun, ended=True)[-1] is Move.TOUCH
    assert moves(*begun, (22, 0.1))[-1] is Move.RELEASE
    assert moves(*begun, (WORD, 0.1))[-1] is Move.TOUCH
    assert moves((WORD, 0.0), (COLON, 0.0), (21, 0.1))[-1] is Move.RELEASE, "the rule does not touch it whatever it becomes"


def test_an_opening_that_was_forced_is_no_refusal():
    assert moves(REFUSAL) == [Move.RELEASE]
    assert moves(REFUSAL, steered=True) == [Move.TOUCH]
    record = ResponseRecord(TREE, KNOWN, steered=True)
    record.extend([30], [0.1], [0.9])
    assert not record.opening_matched


def test_a_refusal_that_turns_is_judged_by_what_follows():
    assert moves(REFUSAL, (STOP, 0.0), (WORD, 0.8))[-1] is Move.TOUCH
    assert moves(REFUSAL, (STOP, 0.0), (WORD, 0.1))[-1] is Move.RELEASE
    assert moves(REFUSAL, (STOP, 0.0), (21, 0.8), (22, 0.1), (WORD, 0.9))[-1] is Move.RELEASE


def test_a_probe_that_is_silent_where_it_matters_is_no_decision():
    for rows in (((WORD, math.nan),), ((WORD, 0.0), (COLON, 0.0), (WORD, math.nan))):
        with pytest.raises(ArithmeticError, match="not measured"):
            moves(*rows)


def test_the_tokens_at_which_refusing_was_weighed_are_known():
    record, gate = ResponseRecord(TREE, KNOWN), Gatekeeper(RULE)
    record.extend([LINE, WORD, WORD, COLON, 21, WORD, WORD], [1.0] * 7, [0.0] * 7)
    gate.move(record, ended=True)
    assert gate.weighed == {0, 1, 4, 5}


def test_tokens_may_arrive_one_by_one_or_together():
    rows = [(LINE, 0.0), (WORD, 0.0), (COLON, 0.0), (21, 0.2), (22, 0.2), (STOP, 0.1), (WORD, 0.8)]
    record = ResponseRecord(TREE, KNOWN)
    record.extend(*zip(*((token, 1.0, mass) for token, mass in rows), strict=True))
    assert Gatekeeper(RULE).move(record, ended=True) is moves(*rows)[-1] is Move.TOUCH


SENSED = Rule(threshold=log_odds(0.5), sensed=Score({"harm": 1.0}), sensed_threshold=0.0)


def refused(
    harm: float | None, *rows: tuple[int, float], needless: float | None = -1.0, steered: bool = False, rule: Rule = SENSED
) -> list[Move]:
    """The gate's moves on an answer to a request of these log-odds of harm."""
    record, gate, made = ResponseRecord(TREE, KNOWN, steered), Gatekeeper(rule, needless=needless), []
    record.harm = harm
    for token, mass in rows:
        record.extend([token], [1.0], [mass])
        made.append(gate.move(record, ended=False))
    return made


def test_a_refusal_of_what_is_harmless_asks_for_another_answer_before_anything_is_delivered():
    assert refused(-2.0, REFUSAL) == [Move.REDRAW] == refused(-1.0, REFUSAL)


@pytest.mark.parametrize(
    ("harm", "options"),
    [
        (-0.9, {}),  # grey
        (3.0, {}),
        (None, {}),  # it was not read
        (-2.0, {"needless": None}),  # the policy leaves refusals alone
        (-2.0, {"steered": True}),  # what a client forces is no refusal of the model's
        (-2.0, {"rule": RULE}),  # every other answer would be touched too
    ],
)
def test_no_other_refusal_does(harm, options):
    assert refused(harm, REFUSAL, **options) == [Move.RELEASE]


def test_what_a_client_has_begun_to_read_is_not_answered_anew():
    record, gate = ResponseRecord(TREE, KNOWN), Gatekeeper(SENSED, needless=0.0, read=True)
    record.harm = -2.0
    record.extend([REFUSAL[0]], [1.0], [REFUSAL[1]])
    assert gate.move(record, ended=False) is Move.RELEASE


def test_an_over_refusal_that_stands_is_asked_about_once():
    record, gate = ResponseRecord(TREE, KNOWN), Gatekeeper(SENSED, needless=0.0)
    record.harm = -2.0
    record.extend([REFUSAL[0]], [1.0], [REFUSAL[1]])
    assert gate.move(record, ended=False) is Move.REDRAW and not gate.read and not gate.released
    gate.needless = None
    assert gate.move(record, ended=False) is Move.RELEASE and gate.released


def test_behind_a_refusal_of_what_is_harmful_the_mass_alone_decides():
    """ "I can't help with that. Here is whom to ask." is a good answer to it."""
    assert refused(9.0, REFUSAL, (STOP, 0.0), (WORD, 0.1)) == [Move.RELEASE] * 3
    assert refused(9.0, REFUSAL, (STOP, 0.0), (WORD, 0.9))[-1] is Move.TOUCH
