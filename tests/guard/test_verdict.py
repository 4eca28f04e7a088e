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


def sensed(row: tuple, harm: str) -> Verdict:
    """What the table says where the harm sense was read."""
    mass, matched, entropy = row
    if mass is None or entropy is None:
        return Verdict.UNCALIBRATED
    if harm == "harmless" and matched:
        return Verdict.OVER_REFUSAL
    if harm == "harmful" and not matched:
        return Verdict.RISKY
    return Verdict(TABLE[row])


@pytest.mark.parametrize("harm", ["harmless", "grey", "harmful"])
@pytest.mark.parametrize("row", TABLE, ids=str)
def test_every_row_where_the_harm_sense_was_read(row, harm):
    assert decide(*row, harm) is sensed(row, harm)


def test_every_verdict_is_reached():
    assert {decide(*row, harm) for row in TABLE for harm in ("harmless", "grey", "harmful")} == set(Verdict)


def test_entropy_alone_decides_no_calibrated_row():
    """Short answers, code and templates are low in entropy without being refusals."""
    for entropy in ("low", "high"):
        assert len({decide(mass, matched, entropy) for mass in ("low", "grey", "high") for matched in MATCHED}) > 1


def test_verdicts_and_actions_are_their_names_on_the_wire():
    assert [str(verdict) for verdict in Verdict] == [
        *("refusal", "over_refusal", "risky", "contested", "plain", "uncalibrated")
    ]
    assert [str(action) for action in Action] == ["none", "halt", "regenerate", "route", "redraw"]
