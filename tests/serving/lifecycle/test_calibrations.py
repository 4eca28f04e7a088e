"""Calibrations are used where they fit what is served."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import pytest

import models
from guard.calibration import Calibration
from online.operations.installation import Installation
from online.settings.load import load

SHIPPED = Calibration.load(models.bundled() / "calibration.json")

if TYPE_CHECKING:
    from serving.lifecycle.calibrations import Calibrations

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported


@pytest.fixture
def calibrations(tmp_path) -> Calibrations:
    """The calibrations of the bundled model, before an engine serves it."""
    from serving.lifecycle.calibrations import Calibrations
    from serving.lifecycle.problems import Problems

    settings = load(env={"SIRL_STATE_DIR": str(tmp_path / "state")})
    return Calibrations(Installation.of(settings, models.bundled()), Problems(), None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"template": "sha256:0"}, "another chat template"),
        ({"quantization": "fp8"}, "the quantisation none, and fp8 is served"),
    ],
)
def test_what_was_made_for_something_else_is_stale_and_said_to_be(calibrations: Calibrations, changed: dict, said: str):
    calibrations.conditions = dataclasses.replace(SHIPPED.conditions, **changed)
    assert calibrations.load("base") is None
    assert f"is stale, made for {said}: run `sirl calibrate` again." in calibrations.problems["calibration of base"]
    calibrations.conditions = SHIPPED.conditions
    assert calibrations.load("base") == SHIPPED
    assert not calibrations.problems and not calibrations.reservations


def test_another_dtype_and_what_is_not_on_record_are_said_once_and_used(calibrations: Calibrations, caplog):
    caplog.set_level(logging.INFO, "sirl")
    calibrations.conditions = dataclasses.replace(SHIPPED.conditions, dtype="bfloat16")
    for _ in range(2):
        assert calibrations.load("base") == SHIPPED
    assert "was made in float32 and bfloat16 is served" in calibrations.reservations["base"] and not calibrations.problems
    older = dataclasses.replace(SHIPPED, conditions=None)
    own = calibrations.installation.state.calibration_path("base")
    older.save(own)
    try:
        assert calibrations.load("base") == older
    finally:
        own.unlink()
    assert "does not say" in calibrations.reservations["base"] and not calibrations.problems
    assert len([record for record in caplog.records if "the calibration of base" in record.message]) == 2
