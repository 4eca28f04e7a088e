"""Versions: their names, and each act on one with who did it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guard.errors import SirlError
from online.operations import versions
from online.operations.installation import Installation
from online.registry.errors import RegistryError
from online.training.ledger import LedgerError
from tests.online.registry.adapters import promoted, publish


def test_a_version_goes_by_its_number_with_or_without_a_v() -> None:
    assert versions.version_of("v3") == versions.version_of("3") == 3
    assert versions.named(3) == "v3" and versions.named(None) == "base"


@pytest.mark.parametrize("name", ["", "v", "v0", "base", "v-1", "v1.0", "vv1", "v٣", "v²", " v1"])
def test_anything_else_names_no_version(name: str) -> None:
    with pytest.raises(SirlError, match="names no adapter: give a version such as v3"):
        versions.version_of(name)


def test_each_act_is_carried_out_in_the_name_of_whoever_asked(here: Installation) -> None:
    first, second = promoted(here.registry), promoted(here.registry)
    versions.activate(here, first, actor="ann")
    versions.pin(here, first, actor="ben")
    versions.unpin(here, first, actor="cem")
    while versions.release(here, second, actor="dia") is not None:
        pass
    assert here.registry.live() == second
    assert versions.roll_back(here, actor="eve") == first
    versions.activate(here, None, actor="fay")
    assert versions.release(here, second, actor="gil") is not None
    versions.withdraw(here, actor="hal")
    assert here.registry.live() is None and here.registry.releasing() is None
    lines = [json.loads(line) for line in here.state.audit_path.read_text().splitlines()]
    actors = list(dict.fromkeys(line["actor"] for line in lines if line.get("actor") in
        ("ann", "ben", "cem", "dia", "eve", "fay", "gil", "hal")))  # fmt: skip
    assert actors == ["ann", "ben", "cem", "dia", "eve", "fay", "gil", "hal"]


def test_what_its_gate_has_not_promoted_takes_force(here: Installation) -> None:
    version = publish(here.registry)
    with pytest.raises(RegistryError, match="has not been"):
        versions.activate(here, version, actor="test")
    versions.activate(here, version, actor="test", force=True)
    assert here.registry.live() == version


def test_what_is_not_there_is_said(here: Installation, tmp_path: Path) -> None:
    with pytest.raises(SirlError, match="no store to sync with"):
        versions.sync(here)
    with pytest.raises(LedgerError, match="v7 has no ledger"):
        versions.ledger(here.state, 7)
    with pytest.raises(SirlError, match="signing_key"):
        versions.sign(here, promoted(here.registry))
    with pytest.raises(SirlError, match="not a directory"):
        versions.adopt(here, tmp_path / "nowhere")
