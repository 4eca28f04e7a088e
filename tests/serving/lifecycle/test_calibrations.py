"""Calibrations are used where they fit what is served."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import models
from guard.calibration import Calibration
from guard.sense import Sense
from online.operations.installation import Installation
from online.settings.load import load
from tests.online.registry.adapters import promoted

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


class Told:
    """An engine that keeps what it is told, and cannot read layer 9."""

    def __init__(self) -> None:
        self.senses: dict[int, Sense | None] = {}

    async def set_openings(self, lora_id: int, openings: object) -> None: ...

    async def set_sense(self, lora_id: int, sense: Sense | None) -> str | None:
        self.senses[lora_id] = sense
        return "Layer 9 is not there." if sense and 9 in sense.layers else None


def sense(*layers: int) -> Sense:
    return Sense(layers, np.ones((1, len(layers), 4), np.float32), 0.0)


def test_an_adapter_without_a_sense_of_its_own_is_read_by_the_base_s_and_what_cannot_be_is_a_problem(calibrations):
    from serving.engine.adapters import Adapters, Slot

    state, engine = calibrations.installation.state, Told()
    adapters = Adapters(engine, lambda name, seconds: None)
    for number in (1, 2):
        lora = SimpleNamespace(lora_int_id=number)
        adapters.slots[f"v{number}"] = Slot(f"v{number}", lora, dataclasses.replace(SHIPPED, adapter=f"v{number}"))
    adapters.slots["v2"].calibration = None

    def look(layer: int) -> dict[int, int | None]:
        dataclasses.replace(SHIPPED, sense=sense(layer)).save(own := state.calibration_path("base"))
        os.utime(own, ns=(layer, layer))
        asyncio.run(calibrations.take_up(adapters))
        return {number: found and found.layers[0] for number, found in engine.senses.items()}

    calibrations._seen = {name: (str(state.calibration_path(name)), None) for name in ("v1", "v2")}
    assert look(3) == {0: 3, 1: 3, 2: None} and not calibrations.problems
    adapters.slots["v1"].calibration = dataclasses.replace(SHIPPED, adapter="v1", sense=sense(2))
    assert look(9) == {0: 9, 1: 2, 2: None}
    assert calibrations.problems == {"harm sense of base": "Layer 9 is not there."}
    assert look(3)[0] == 3 and not calibrations.problems


def test_the_layers_of_all_calibrations_are_known_before_the_engine_starts(calibrations):
    from serving.lifecycle.calibrations import layers_read

    here = calibrations.installation
    assert layers_read(here) == ()
    dataclasses.replace(SHIPPED, sense=sense(1, 3)).save(here.state.calibration_path("base"))
    version = promoted(here.registry)
    dataclasses.replace(SHIPPED, sense=sense(2, 3), adapter=f"v{version}").save(here.state.calibration_path(f"v{version}"))
    assert layers_read(here) == (1, 2, 3)
    here.state.calibration_path(f"v{version}").write_text("{")
    assert layers_read(here) == (1, 3)
