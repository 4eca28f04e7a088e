"""Gating what came from outside: the update's own gate, and no promotion without it."""

from __future__ import annotations

import pytest

from online.operations.gating import gate
from online.operations.installation import Installation
from tests.online.registry.adapters import publish


@pytest.mark.parametrize("decision", ["promoted", "rejected", "undecided"])
def test_what_a_gate_decided_stands_and_what_it_left_undecided_is_asked_again(here: Installation, decision: str) -> None:
    """Here the version cannot be loaded: whoever asks it again finds that, and whoever does not need it does not."""
    version = publish(here.registry)
    here.registry.attach(version, "evaluation", {"decision": decision, "reasons": ["as it was"], "power": {}})
    outcome = gate(here, version)
    again = decision == "undecided"
    assert (outcome.status == "failed") is again or "as it was" in outcome.reasons, outcome.reasons


def test_an_adapter_of_another_shape_fails_its_gate_and_is_not_promoted(here: Installation) -> None:
    version = publish(here.registry)
    outcome = gate(here, version)
    assert outcome.status == "failed" and "does not fit" in outcome.reasons[0], outcome.reasons
    assert here.registry.live() is None and here.registry.releasing() is None
    assert outcome.id in here.state.audit_path.read_text()
