"""Answers are compared by what they say, not by how they are written."""

from fractions import Fraction

import pytest

from evaluation.utility import boxed, last_number, matches, same_maths
from evaluation.utility.exact import as_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7 apples.\n#### 7", 7),
        ("She pays $1,234.50.", Fraction("1234.5")),
        ("The answer is 12, for 3 * 4 is 12 and 13 is more.", 12),
        ("To answer this, add 5 and 7, which makes 12.", 12),
        ("**Final answer**: 8. I checked it 2 times.", 8),
        ("It falls by -3.", -3),
        ("9-4", 4),
        ("about 3/4 of it", Fraction(3, 4)),
        (r"Thus \boxed{18} of 20.", 18),
        (".5", Fraction(1, 2)),
        ("B52 and mp3", None),
        ("none", None),
        ("", None),
    ],
)
def test_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(("text", "number"), [("1,000", 1000), ("$5.00", 5), ("−2", -2), ("1/0", None), ("five", None)])
def test_as_number(text, number):
    assert as_number(text) == number


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Paris", "Paris."),
        ("**paris**", "Paris"),
        ("It is a town on the Seine.\n\nAnswer: Paris", "Paris"),
        ("France's capital.\nParis.", "Paris"),
        ("That makes 18 dollars.", "18"),
        ("That makes 18.0", "18"),
    ],
)
def test_matches(response, answer):
    assert matches(response, answer)


@pytest.mark.parametrize(
    ("response", "answer"),
    [("Paris or Rome", "Paris"), ("Not Paris", "Paris"), ("", "Paris"), ("x", ""), ("18 of 19", "18")],
)
def test_no_matches(response, answer):
    assert not matches(response, answer)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"$\fbox{x}$", "x"),
        (r"\boxed 5$.", "5"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}"),
        (r"\boxed{1", None),
        ("none", None),
    ],
)
def test_boxed(text, inside):
    assert boxed(text) == inside


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (r"\dfrac{1}{2}", r"\frac12"),
        ("1/2", r"\frac{1}{2}"),
        ("0.5", r"\frac{1}{2}"),
        (r"-\frac{3}{4}", "-0.75"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"x = 5", "5"),
        (r"10\text{ cm}", "10"),
        (r"90^\circ", "90"),
        (r"\$18.90", "18.9"),
        ("1,000", "1000"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"2\sqrt3", r"2\sqrt{3}"),
    ],
)
def test_same_maths(ours, theirs):
    assert same_maths(ours, theirs) and same_maths(theirs, ours)


@pytest.mark.parametrize(("ours", "theirs"), [("1", "2"), ("(1,2)", "12"), ("", ""), (r"\frac{1}{2}", "2"), ("x+1", "x")])
def test_other_maths(ours, theirs):
    assert not same_maths(ours, theirs)
