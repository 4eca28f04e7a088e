"""A calibration that was made for something else than is served is not used, and what differs is said."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import models
from guard.calibration import Calibration, Conditions
from online.operations.installation import Installation
from online.settings.load import load
from tests.conftest import running
from tests.serving.test_killed import children

if TYPE_CHECKING:
    from serving.lifecycle.calibrations import Calibrations

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported
SHIPPED = Calibration.load(models.bundled() / "calibration.json")


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


@pytest.mark.engine
def test_a_served_template_makes_a_calibration_stale_and_reaches_the_learner(tmp_path: Path):
    template = tmp_path / "other.jinja"
    template.write_text((models.bundled() / "chat_template.jinja").read_text() + "{# another #}")
    with running(tmp_path / "state", "--learn", "--chat-template", str(template), "--dtype", "bfloat16") as server:
        status = server.get("/guard/v1/status").json()
        assert not status["calibrated"] and "another chat template" in status["problems"]["calibration of base"]
        (learner,) = server.wait(lambda: children(server, b"learn"))
        words = Path(f"/proc/{learner}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"--chat-template") + 1] == str(template).encode()
        fitting = Conditions.of(template.read_text(), "float32", None)
        made = dataclasses.replace(SHIPPED, conditions=fitting)
        made.save(server.state / "registry" / "base" / "calibration.json")
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        status = server.get("/guard/v1/status").json()
        assert "float32 and bfloat16" in status["reservations"]["base"]
        assert "calibration of base" not in status["problems"]
