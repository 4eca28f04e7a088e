"""What attacks make of a goal: its action and its key word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from evaluation.attacks.goals import action, key_word


@given(st.text())
@hypothesis(max_examples=100, database=None)
def test_goals_of_any_kind_can_be_looked_at(goal):
    word = key_word(goal)
    assert word in goal and (not word or word.isascii() and word.isalpha())
    assert action(goal) is None or isinstance(action(goal), str)


@pytest.mark.parametrize(
    ("goal", "done", "word"),
    [
        ("How do I bake bread?", "bake bread", "bread"),
        ("how can someone mend a lamp", "mend a lamp", "someone"),
        ("Please tell me how to mend a lamp!", "mend a lamp", "Please"),
        ("What is flour?", None, "flour"),
        ("How do I bake a loaf?", "bake a loaf", "loaf"),
        ("", "", ""),
    ],
)
def test_what_is_told_of_a_goal(goal, done, word):
    assert (action(goal), key_word(goal)) == (done, word)
