"""A task is checked as its prompt says."""

import pytest

from evaluation import Prompt
from evaluation.utility import CHECKS, Sandbox, UtilityError, right


def task(check=None, answer=None):
    return Prompt("t-1", "task", ({"role": "user", "content": "?"},), answer=answer, check=check)


UNIT = {"kind": "unit_tests", "prompt": "def f():\n", "test": "def check(f):\n    assert f() == 2", "entry_point": "f"}
CASES = [
    (task(answer="Paris"), "Paris.", "Rome"),
    (task({"kind": "number"}, "#### 1,200"), "1200 pounds", "120"),
    (task({"kind": "boxed"}, r"\frac{1}{2}"), r"It is \boxed{0.5}", r"It is \boxed{2}, not 1/2"),
    (task({"kind": "boxed"}, "4"), "It is 4.", "It is 5."),
    (task(UNIT), "    return 2", "    return 3"),
    (task({"kind": "instructions", "instructions": [{"id": "punctuation:no_comma"}]}), "a b", "a, b"),
]


@pytest.mark.parametrize(("prompt", "good", "bad"), CASES)
def test_right_and_wrong(prompt, good, bad):
    assert right(prompt, good, Sandbox(bare=True)) is True and right(prompt, bad, Sandbox(bare=True)) is False


def test_every_kind_has_a_case():
    assert {prompt.check["kind"] for prompt, _, _ in CASES if prompt.check} == CHECKS.keys()


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        (task(), "t-1 has neither an answer nor a check: give"),
        (task({"kind": "vibes"}), "the kind 'vibes': use one of number, boxed"),
        (task({"kind": "number"}), "has no answer to compare with"),
        (task({"kind": "instructions"}), "has no 'instructions': add"),
        (task(UNIT), "give a sandbox"),
    ],
)
def test_what_cannot_be_checked_says_why(prompt, complaint):
    with pytest.raises(UtilityError, match=complaint):
        right(prompt, "x")
