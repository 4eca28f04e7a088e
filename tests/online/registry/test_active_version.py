"""live.json: what serves, and the way back."""

from __future__ import annotations

import shutil

import pytest

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.release_record import Release
from tests.online.registry.adapters import audit, promoted, publish


def test_activate_and_roll_back(registry: Registry) -> None:
    for _ in range(3):
        promoted(registry)
    assert registry.live() is None and registry.watch_stamp()[0] == (0, 0, 0)
    stamps = {registry.watch_stamp()}
    for version in (1, 2, 2, 3):
        registry.activate(version, actor="test", reason="trial")
        stamps.add(registry.watch_stamp())
    assert len(stamps) == 5 and registry.live() == 3
    assert [adapter.state for adapter in registry.versions()] == ["retired", "retired", "live"]
    assert [registry.rollback(actor="test", reason="back") for _ in range(3)] == [2, 1, None]
    assert registry.live() is None
    with pytest.raises(RegistryError, match="nothing servable was live before"):
        registry.rollback(actor="test", reason="back")
    assert audit(registry).count("adapter.rolled_back") == 3


def test_rollback_passes_over_what_was_damaged(registry: Registry) -> None:
    for version in (promoted(registry), promoted(registry), promoted(registry)):
        registry.activate(version, actor="test", reason="trial")
    shutil.rmtree(registry.path(2))
    assert registry.rollback(actor="test", reason="back") == 1
    assert "adapter.passed_over" in audit(registry)


@pytest.mark.parametrize("decision", ["rejected", "undecided", None])
def test_rollback_brings_back_only_what_its_gate_promoted(registry: Registry, decision: str | None, caplog) -> None:
    """A version that was forced once is no way back: it takes force again."""
    first, forced, third = promoted(registry), publish(registry), promoted(registry)
    if decision is not None:
        registry.attach(forced, "evaluation", {"decision": decision})
    for version in (first, forced, third):
        registry.activate(version, actor="test", reason="trial", force=True)
    assert registry.rollback(actor="test", reason="back") == first
    assert f"passed over on the way back: v{forced} {'was' if decision else 'has not been'}" in caplog.text
    assert registry.rollback(actor="test", reason="back") is None
    with pytest.raises(RegistryError, match="nothing servable was live before"):
        registry.rollback(actor="test", reason="back")


def test_rollback_of_a_version_without_a_way_back_is_to_the_base(registry: Registry) -> None:
    forced, second = publish(registry), promoted(registry)
    registry.pointer.write(forced, (), registry.pointer.read(), "test", "trial", "adapter.activated")
    registry.activate(second, actor="test", reason="trial")
    assert registry.rollback(actor="test", reason="back") is None and registry.live() is None


def test_rollback_passes_over_what_was_taken_back_itself(registry: Registry) -> None:
    first, second, third = promoted(registry), promoted(registry), promoted(registry)
    for version in (first, second, first, third):  # the second and then the first are on the way back
        registry.activate(version, actor="test", reason="trial")
    registry.release(Release(second, "canary", 0.5), actor="test", reason="trial")
    registry.release(None, actor="health", reason="its answers are worse")
    assert registry.rollback(actor="health", reason="its logits are NaN") == first
    assert registry.pointer.read().taken_back == {second, third}
    assert registry.rollback(actor="test", reason="back") is None, "over the second and the first, which was rolled back"
    registry.activate(second, actor="test", reason="by name it may serve again")
    registry.activate(first, actor="test", reason="as this one")
    assert registry.pointer.read().taken_back == {third}
    assert registry.rollback(actor="test", reason="back") == second


def test_what_replaces_a_version_on_its_way_does_not_take_it_back(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    registry.release(Release(first, "shadow", 0.5), actor="test", reason="trial")
    registry.release(Release(second, "shadow", 0.5), actor="test", reason="trial")
    registry.activate(second, actor="test", reason="trial")
    assert registry.pointer.read().taken_back == set()


@pytest.mark.parametrize("text", ["", '{"version": 1', '{"version": "1", "stack": [], "history": []}', "[]"])
def test_damaged_live_file(registry: Registry, text: str) -> None:
    publish(registry)
    registry.activate(1, actor="test", reason="trial", force=True)
    (registry.path(1).parent / "live.json").write_text(text)
    with pytest.raises(RegistryError, match="is damaged"):
        registry.live()
    assert registry.versions()[0].state == "candidate"
    registry.activate(1, actor="test", reason="mend", force=True)
    assert registry.live() == 1


def test_a_live_version_that_is_gone(registry: Registry) -> None:
    publish(registry)
    registry.activate(1, actor="test", reason="trial", force=True)
    shutil.rmtree(registry.path(1))
    with pytest.raises(RegistryError, match="which is gone"):
        registry.live()
    assert publish(registry) == 2
