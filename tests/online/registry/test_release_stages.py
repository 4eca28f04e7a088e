"""How a version comes to serve: stages in order, taken back when it is worse, moved on when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.release_record import Release
from online.registry.release_stages import advance
from online.settings.groups import ReleaseSettings
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE, publish

SETTINGS = ReleaseSettings()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(StateDir(tmp_path / "state"), BASE)


def promoted(registry: Registry) -> int:
    version = publish(registry)
    registry.attach(version, "evaluation", {"decision": "promoted"})
    return version


def test_a_version_comes_to_serve_by_its_stages(registry: Registry) -> None:
    version = promoted(registry)
    steps = [advance(registry, SETTINGS, version, actor="t", reason="r") for _ in range(3)]
    assert steps == ["shadow", "canary", None]
    assert registry.live() == version and registry.releasing() is None
    events = [line for line in registry._state.audit_path.read_text().splitlines() if "adapter." in line]
    assert [kind for kind in ("shadow", "canary", "activated") if any(f"adapter.{kind}" in line for line in events)]


def test_what_serves_stays_while_another_is_on_its_way_and_is_taken_back(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    registry.activate(first, actor="t", reason="r")
    advance(registry, SETTINGS, second, actor="t", reason="r")
    assert registry.live() == first and registry.releasing() == Release(second, "shadow", SETTINGS.shadow)
    registry.release(None, actor="health", reason="worse")
    assert registry.live() == first and registry.releasing() is None
    with pytest.raises(RegistryError, match="serves already"):
        registry.release(Release(first, "canary", 0.1), actor="t", reason="r")


@pytest.mark.parametrize(
    ("wished", "steps"),
    [({"shadow": 0}, ["canary", None]), ({"canary": 0}, ["shadow", None]), ({"shadow": 0, "canary": 0}, [None])],
)
def test_stages_that_are_not_wished_for_are_left_out(registry: Registry, wished: dict, steps: list) -> None:
    version, settings = promoted(registry), ReleaseSettings(**wished)
    assert [advance(registry, settings, version, actor="t", reason="r") for _ in steps] == steps
    assert registry.live() == version


def test_who_decides_late_decides_nothing(registry: Registry) -> None:
    version = promoted(registry)
    advance(registry, SETTINGS, version, actor="t", reason="r")
    seen = registry.releasing()
    registry.release(None, actor="operator", reason="no")
    with pytest.raises(RegistryError, match="no longer on its way"):
        advance(registry, SETTINGS, version, actor="monitor", reason="nothing found", instead=seen)
    with pytest.raises(RegistryError, match="no longer on its way"):
        registry.release(None, actor="monitor", reason="worse", instead=seen)
    assert registry.live() is None and registry.releasing() is None


def test_what_its_gate_did_not_promote_is_not_released(registry: Registry) -> None:
    version = publish(registry)
    with pytest.raises(RegistryError, match="has not been through its gate"):
        advance(registry, SETTINGS, version, actor="t", reason="r")


def test_activation_and_rollback_end_a_release(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    registry.activate(first, actor="t", reason="r")
    for end in (lambda: registry.activate(None, actor="t", reason="r"), lambda: registry.rollback(actor="t", reason="r")):
        registry.release(Release(second, "canary", 0.1), actor="t", reason="r")
        end()
        assert registry.releasing() is None
