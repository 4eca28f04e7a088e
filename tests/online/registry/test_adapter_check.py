"""Adapters from outside: what is taken, and what is refused in a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from online.registry.adapter_check import AdapterError
from online.registry.registry import Registry
from tests.online.registry.adapters import MODULE, weights, write_adapter


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    save_file({f"{MODULE}.weight": torch.zeros(16, 8)}, directory / "model.safetensors")
    return directory


def test_import(registry: Registry, base_dir: Path, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "in", auto_mapping={"parent_library": "os"}, revision="x")
    (source / "README.md").write_text("hello")
    version = registry.import_adapter(source, base_dir=base_dir, max_rank=16)
    registry.verify(version)
    assert registry.manifest(version)["origin"] == "import"
    config = json.loads((registry.path(version) / "adapter_config.json").read_text())
    assert config["r"] == 4 and "auto_mapping" not in config
    assert sorted(os.listdir(registry.path(version))) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    assert load_file(registry.path(version) / "adapter_model.safetensors").keys() == weights().keys()


def _truncate(source: Path) -> None:
    file = source / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def _rewrite(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        tensors = weights()
        change(tensors)
        save_file(tensors, source / "adapter_model.safetensors")

    return apply


A, B = weights()
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (lambda source: (source / "training_args.bin").write_bytes(b""), "could run code"),
    "truncated": (_truncate, "truncated"),
    "junk": (lambda source: (source / "adapter_model.safetensors").write_bytes(b"x" * 99), "truncated or no"),
    "no weights": (lambda source: (source / "adapter_model.safetensors").unlink(), "has no adapter_model"),
    "no config": (lambda source: (source / "adapter_config.json").unlink(), "has no adapter_config"),
    "config": (lambda source: (source / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
    "other kind": (lambda source: write_adapter(source, peft_type="IA3"), "only peft_type LORA"),
    "dora": (lambda source: write_adapter(source, use_dora=True), "use_dora"),
    "pissa": (lambda source: write_adapter(source, init_lora_weights="pissa"), "changes the base"),
    "big rank": (lambda source: write_adapter(source, weights(32), r=32), "raise --update-lora-rank"),
    "bad rank": (lambda source: write_adapter(source, r="4"), "no valid rank"),
    "wrong rank": (lambda source: write_adapter(source, r=2), "correct r"),
    "alpha": (lambda source: write_adapter(source, lora_alpha=None), "no valid lora_alpha"),
    "nan": (_rewrite(lambda tensors: tensors[A].fill_(float("nan"))), "not finite"),
    "bf16 inf": (
        _rewrite(lambda t: t.update({B: torch.full((16, 4), float("inf")).bfloat16()})),
        "not finite",
    ),
    "integers": (_rewrite(lambda tensors: tensors.update({A: tensors[A].long()})), "as I64"),
    "half a pair": (_rewrite(lambda tensors: tensors.pop(B)), "only one of"),
    "empty": (_rewrite(lambda tensors: tensors.clear()), "no tensors"),
    "base shape": (_rewrite(lambda tensors: tensors.update({A: torch.ones(4, 9)})), "of shape"),
    "base weight": (
        _rewrite(lambda tensors: tensors.update({"lm_head.weight": torch.ones(2)})),
        "no LoRA matrix",
    ),
    "module": (
        _rewrite(lambda t: t.update({A.replace("q_proj", "z_proj"): torch.ones(4, 8)})),
        "which this base has not",
    ),
    "recorded base": (
        lambda source: (source / "manifest.json").write_text('{"base": "sha256:other"}'),
        "another base",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_imports_are_one_sentence_and_leave_nothing(
    registry: Registry, base_dir: Path, tmp_path: Path, case: str
) -> None:
    damage, wanted = BAD[case]
    source = write_adapter(tmp_path / "in")
    damage(source)
    with pytest.raises(AdapterError) as caught:
        registry.import_adapter(source, base_dir=base_dir, max_rank=16)
    text = str(caught.value)
    assert wanted in text and text.endswith(".") and "\n" not in text
    assert registry.versions() == [] and not list(registry.path(1).parent.glob(".staging-*"))


def test_import_from_nowhere_or_for_no_base(registry: Registry, base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="not a directory"):
        registry.import_adapter(tmp_path / "none", base_dir=base_dir, max_rank=16)
    (base_dir / "model.safetensors").write_bytes(b"x")
    with pytest.raises(AdapterError, match="restore that file"):
        registry.import_adapter(write_adapter(tmp_path / "in"), base_dir=base_dir, max_rank=16)
