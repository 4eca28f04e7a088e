"""Adapters made for tests and benchmarks: real PEFT LoRAs that visibly change what a model says."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import models


def make(folder: Path, seed: int, *, rank: int = 16, scale: float = 0.2, model: Path | None = None) -> Path:
    """A random adapter with every linear layer changed by noise of this scale; of the bundled model, or another."""
    base = AutoModelForCausalLM.from_pretrained(model or models.bundled(), dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(seed)
    adapted = get_peft_model(base, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    adapted.save_pretrained(folder)
    return folder
