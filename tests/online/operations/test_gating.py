"""Gating what came from outside: the update's own gate, and no promotion without it."""

from __future__ import annotations

from online.operations.gating import gate
from online.operations.installation import Installation
from tests.online.registry.adapters import publish


def test_an_adapter_of_another_shape_fails_its_gate_and_is_not_promoted(here: Installation) -> None:
    version = publish(here.registry)
    outcome = gate(here, version)
    assert outcome.status == "failed" and "does not fit" in outcome.reasons[0], outcome.reasons
    assert here.registry.live() is None and here.registry.releasing() is None
    assert outcome.id in here.state.audit_path.read_text()
