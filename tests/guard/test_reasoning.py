"""A reasoning model's answer is judged apart from what it thought before."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.gatekeeper import Gatekeeper, Move
from guard.openings import LEFT, MATCHED, ROOT, Openings
from guard.reasoning import THINKING, Reasoning
from guard.record import ResponseRecord
from guard.rule import Rule

START, END, BLANK = 100, 101, 102
REASONING = Reasoning(START, END, frozenset({BLANK}))
OPENINGS = Openings(((7,), (1, 2)), {(1,): 0.5}, REASONING)
PLAIN = Openings(((7,), (1, 2)), {(1,): 0.5})
TOKENS = st.lists(st.sampled_from([START, END, BLANK, 0, 1, 2, 7]), max_size=10)


@pytest.mark.parametrize(
    ("prompt", "tokens", "node"),
    [
        ([], [], ROOT),
        ([5], [7], MATCHED),
        ([5], [0], LEFT),
        ([5], [START], THINKING),
        ([5], [BLANK, START, 7, 7], THINKING),
        ([5], [START, 7, END], ROOT),
        ([5], [START, 7, END, BLANK, BLANK], ROOT),
        ([5], [START, 0, END, BLANK, 7], MATCHED),
        ([5], [START, 7, END, BLANK, 0, START], LEFT),
        ([5, START], [7], THINKING),
        ([5, START], [0, END, 1], 1),
        ([5, START], [0, END, 1, 2], MATCHED),
        ([5, START, END], [7], MATCHED),
        ([START, END, START, BLANK], [0], THINKING),
        ([START, 5], [7], THINKING),
        ([5], [END, BLANK, 7], MATCHED),
    ],
)
def test_where_a_response_stands(prompt, tokens, node):
    assert OPENINGS.walk(tokens, OPENINGS.begin(prompt)) == node


@given(TOKENS)
def test_without_marks_nothing_is_different(tokens):
    tokens = [token for token in tokens if token < START]
    assert OPENINGS.walk(tokens) == PLAIN.walk(tokens)


@given(st.lists(st.integers(0, 99), max_size=6), TOKENS)
def test_a_reasoning_and_what_follows_it_is_as_what_follows_alone(thought, tokens):
    tokens = [token for token in tokens if token < START]
    assert OPENINGS.walk([START, *thought, END, BLANK, *tokens]) == PLAIN.walk(tokens)
    before, still_open = REASONING.before_answer([START], [*thought, END, BLANK, *tokens])
    assert before == (*thought, END, BLANK) and not still_open
    assert REASONING.before_answer([], [START, *thought]) == ((START, *thought), True)


def test_it_is_stored_and_read_again():
    assert Openings.from_json(OPENINGS.to_json()) == OPENINGS
    assert Openings.from_json(PLAIN.to_json()) == PLAIN


def record(*rows: tuple[int, float, float], prompt: tuple[int, ...] = ()) -> ResponseRecord:
    made = ResponseRecord(OPENINGS)
    made.begin(prompt)
    made.extend(*(zip(*rows, strict=True) if rows else ([], [], [])))
    return made


NAN = math.nan
THOUGHT = ((START, 9.0, 0.9), (7, 9.0, NAN), (END, 9.0, NAN), (BLANK, 9.0, 0.8))


def test_no_figure_is_taken_from_the_reasoning():
    made = record(*THOUGHT, (0, 1.0, 0.3), (4, 2.0, 0.1))
    assert made.refusal_mass == 0.3 and made.reasoned == 4 and not made.opening_matched and made.decided
    assert made.entropy_mean == 1.5 and made.entropy_max == 2.0 and made.signals.count == 2
    assert made.signals.value("first") == pytest.approx(math.log(0.3 / 0.7))
    alone = record((0, 1.0, 0.3), (4, 2.0, 0.1))
    assert repr(alone.signals) == repr(made.signals), "some are NaN, which equals nothing"
    made.trim(2)
    assert made.reasoned == 2 and math.isnan(made.entropy_mean)


def test_the_reasoning_is_held_with_the_opening_or_runs_live():
    rule = Rule(threshold=0.0)
    for held in (True, False):
        gate, made = Gatekeeper(rule, hold_reasoning=held), record()
        moves = []
        for token, entropy, mass in (*THOUGHT, (0, 1.0, 0.9)):
            made.extend([token], [entropy], [mass])
            moves.append(gate.move(made, ended=False))
        assert moves == [Move.HOLD if held else Move.RELEASE] * 4 + [Move.TOUCH]
        assert gate.read is not held


def test_what_never_comes_to_an_answer_is_empty_or_what_was_streamed():
    made = record(*THOUGHT)
    assert Gatekeeper(Rule(threshold=-9.0)).move(made, ended=True) is Move.EMPTY
    assert Gatekeeper(Rule(threshold=-9.0), hold_reasoning=False).move(made, ended=True) is Move.RELEASE
    inside = record((5, 1.0, NAN), prompt=(1, START))
    assert Gatekeeper(Rule()).move(inside, ended=True) is Move.EMPTY
