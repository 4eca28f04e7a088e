"""Gating a version that came from outside, as if it had been learned here, or one that the gate was undecided about."""

from __future__ import annotations

from online.operations.installation import Installation
from online.operations.suites import suites_for
from online.operations.versions import tidy
from online.updates.record import UpdateOutcome
from online.updates.update import run_gate


def gate(installation: Installation, version: int) -> UpdateOutcome:
    """Calibrate and gate a version that came from outside, or was left undecided, and promote it if it passes, as if it had
    been learned here. What a gate decided before stands."""
    settings, model = installation.settings, installation.model
    with installation.buffer() as buffer:
        outcome = run_gate(
            settings, installation.state, installation.registry, model, suites_for(model, settings), version, buffer
        )
    tidy(installation)
    return outcome
