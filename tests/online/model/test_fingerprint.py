"""A model's fingerprint changes with any of its weights, and with its tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from online.model.fingerprint import FingerprintError, fingerprint


def test_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(FingerprintError, match=r"no config\.json"):
        fingerprint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FingerprintError, match="no .*safetensors"):
        fingerprint(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(3 << 20))
    first = fingerprint(tmp_path)
    assert first.startswith("sha256:") and fingerprint(tmp_path) == first
    seen = {first}
    for change in (b"\x01" + bytes((3 << 20) - 1), bytes((3 << 20) - 1) + b"\x01", bytes((3 << 20) + 1)):
        weights.write_bytes(change)
        seen.add(fingerprint(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    seen.add(fingerprint(tmp_path))
    assert len(seen) == 5
