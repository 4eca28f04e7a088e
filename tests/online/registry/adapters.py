"""Small adapters, and a registry in which tests publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from online.registry.registry import Registry

BASE = "sha256:base"
MODULE = "model.layers.0.self_attn.q_proj"


def weights(rank: int = 4) -> dict[str, torch.Tensor]:
    prefix = f"base_model.model.{MODULE}"
    return {f"{prefix}.lora_A.weight": torch.ones(rank, 8), f"{prefix}.lora_B.weight": torch.ones(16, rank)}


def write_adapter(directory: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(weights() if tensors is None else tensors, directory / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(document | config))
    return directory


def publish(registry: Registry, parent: int | None = None) -> int:
    with registry.stage() as staged:
        write_adapter(staged)
        return registry.publish(staged, parent=parent, settings={"steps": 3}, data_fingerprint="d", metrics={})


def promoted(registry: Registry) -> int:
    version = publish(registry)
    registry.attach(version, "evaluation", {"decision": "promoted"})
    return version


def audit(registry: Registry) -> list[str]:
    lines = (registry.path(1).parent.parent / "audit.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]
