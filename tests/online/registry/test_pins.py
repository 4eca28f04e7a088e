"""Pinned versions are kept."""

from __future__ import annotations

import pytest

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from tests.online.registry.adapters import audit, publish


def test_pins_are_kept_shown_and_go_with_what_is_destroyed(registry: Registry) -> None:
    for _ in range(3):
        publish(registry)
    registry.pin(3, actor="test")
    registry.pin(1, actor="test")
    registry.pin(3, actor="test")
    assert registry.pins() == (1, 3) and [a.pinned for a in registry.versions()] == [True, False, True]
    with pytest.raises(RegistryError, match="there is no adapter v7"):
        registry.pin(7, actor="test")
    registry.unpin(3, actor="test")
    registry.unpin(3, actor="test")
    assert registry.pins() == (1,) and audit(registry).count("adapter.pinned") == 3
    registry.destroy(1, actor="test", reason="trial")
    assert registry.pins() == ()
    (registry.path(1).parent / "pins.json").write_text("torn")
    assert len(registry.versions()) == 3
    with pytest.raises(RegistryError, match=r"pins\.json is damaged"):
        registry.pins()
