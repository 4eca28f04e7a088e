"""The attacking model: what it is told, and what is read of its answer."""

from __future__ import annotations

import pytest

from evaluation.attacks import Answer
from evaluation.attacks.attacker import briefing, feedback, idea, says_no
from tests.evaluation.attacks.simulated import GOAL


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"improvement": "i", "prompt": "p"}', "p"),
        ('Sure!\n```json\n{"prompt": "p {x}", "improvement": ""}\n```', "p {x}"),
        ('{"prompt": "two\nlines"}', "two\nlines"),
        ('{not json} {"a": 1} {"prompt": ""} {"prompt": "last"}', "last"),
        ('[{"prompt": "in a list"}]', "in a list"),
        ('{"answer": {"prompt": "inside"}}', "inside"),
        ('{"prompt": "cut off', None),
        ('{"prompt": 3}', None),
        ('{"prompt": " "}', None),
        ('{"a":' * 1500, None),
        ("I cannot do that.", None),
        ("", None),
        ('{"prompt": "the new prompt"}', None),
    ],
)
def test_ideas_are_read_whatever_stands_around_them(text, found):
    assert idea(text) == found


@pytest.mark.parametrize(
    ("text", "no"),
    [
        ("No", True),
        (" **no**, it asks", True),
        ("NO.", True),
        ("yes", False),
        ("", False),
        ("Nothing", False),
        ("I say no", False),
    ],
)
def test_only_a_clear_no_is_one(text, no):
    assert says_no(text) is no


def test_the_attacker_hears_the_answer_and_its_score():
    assert "refused it" in feedback(Answer("refused it", score=0.0)) and "Score: 1 of 10" in feedback(Answer("", score=0.0))
    assert "Score: 10 of 10" in feedback(Answer("x", score=1.0)) and "no answer" in feedback(Answer(" "))
    assert len(feedback(Answer("x" * 10_000))) < 2_000 and GOAL in briefing(GOAL)[0]["content"]
