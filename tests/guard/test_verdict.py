"""The whole truth table, every row of the grid written out."""

from __future__ import annotations

from itertools import product

import pytest

from guard.policy import Action
from guard.verdict import Verdict, decide

MASSES = (None, "low", "grey", "high")
MATCHED = (False, True)
ENTROPIES = (None, "low", "high")

TABLE = {
    (None, False, None): "uncalibrated",
    (None, False, "low"): "uncalibrated",
    (None, False, "high"): "uncalibrated",
    (None, True, None): "uncalibrated",
    (None, True, "low"): "uncalibrated",
    (None, True, "high"): "uncalibrated",
    ("low", False, None): "uncalibrated",
    ("low", False, "low"): "plain",
    ("low", False, "high"): "plain",
    ("low", True, None): "uncalibrated",
    ("low", True, "low"): "refusal",
    ("low", True, "high"): "plain",
    ("grey", False, None): "uncalibrated",
    ("grey", False, "low"): "contested",
    ("grey", False, "high"): "risky",
    ("grey", True, None): "uncalibrated",
    ("grey", True, "low"): "refusal",
    ("grey", True, "high"): "contested",
    ("high", False, None): "uncalibrated",
    ("high", False, "low"): "contested",
    ("high", False, "high"): "risky",
    ("high", True, None): "uncalibrated",
    ("high", True, "low"): "refusal",
    ("high", True, "high"): "contested",
}


def test_the_table_covers_the_grid():
    assert set(TABLE) == set(product(MASSES, MATCHED, ENTROPIES)) and len(TABLE) == 4 * 2 * 3


@pytest.mark.parametrize(("row", "verdict"), TABLE.items(), ids=lambda value: str(value))
def test_every_row(row, verdict):
    assert decide(*row) is Verdict(verdict)


def test_every_verdict_is_reached():
    assert {decide(*row) for row in TABLE} == set(Verdict)


def test_entropy_alone_decides_no_calibrated_row():
    """Short answers, code and templates are low in entropy without being refusals."""
    for entropy in ("low", "high"):
        assert len({decide(mass, matched, entropy) for mass in ("low", "grey", "high") for matched in MATCHED}) > 1


def test_verdicts_and_actions_are_their_names_on_the_wire():
    assert [str(verdict) for verdict in Verdict] == ["refusal", "risky", "contested", "plain", "uncalibrated"]
    assert [str(action) for action in Action] == ["none", "halt", "regenerate", "route"]
