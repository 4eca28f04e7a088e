"""Paths through a tree of openings, and a tiny model that is asked about them."""

from __future__ import annotations

import torch
from peft import LoraConfig

from guard.openings import Openings
from online.model.local_model import LocalModel

TREE = Openings(((5,), (6, 7), (6, 8, 9), (6, 8, 10), (11, 12, 13, 14)), {(6,): 0.4, (6, 8): 0.7, (11,): 0.2})
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def distribution(llm: LocalModel, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return llm.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)


def disturbed(llm: LocalModel, name: str, seed: int = 0) -> list[torch.nn.Parameter]:
    parameters = llm.add_adapter(name, LORA, seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter += torch.randn(parameter.shape, generator=draw) * 0.2
    return parameters
