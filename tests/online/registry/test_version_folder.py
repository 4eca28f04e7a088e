"""What may lie in a version's folder, and that all of it is as it was published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from tests.online.registry.adapters import publish, write_adapter


def _flip(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda path: _flip(path / "adapter_model.safetensors"), "was changed"),
        (lambda path: (path / "adapter_config.json").unlink(), "lacks a file"),
        (lambda path: (path / "extra.bin").write_bytes(b""), "file too many"),
        (lambda path: _flip(path / "manifest.json"), "is damaged"),
    ],
)
def test_damage_is_found_before_it_serves(registry: Registry, damage: Callable[[Path], object], wanted: str) -> None:
    publish(registry)
    damage(registry.path(1))
    with pytest.raises(RegistryError, match=wanted):
        registry.activate(1, actor="test", reason="trial", force=True)
    assert registry.live() is None and len(registry.versions()) == 1


def test_nothing_but_safetensors_and_json_is_part_of_a_version(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"training_args\.bin cannot be part of a version"), registry.stage() as staged:
        write_adapter(staged)
        (staged / "training_args.bin").write_bytes(b"")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    folder = registry.path(publish(registry))
    (folder / "x.pkl").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["x.pkl"] = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    (folder / "manifest.json").chmod(0o600)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RegistryError, match=r"lists x\.pkl, which is no part of an adapter"):
        registry.verify(1)


def test_a_write_under_way_beside_it_is_no_file_too_many(registry: Registry) -> None:
    (registry.path(publish(registry)) / ".calibration.json.0a.tmp").write_bytes(b"{")
    registry.verify(1)
