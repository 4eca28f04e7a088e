"""Targets: the linear layers of a model that an adapter is put on, by name."""

from __future__ import annotations

import logging

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from guard.errors import SirlError
from online.settings.groups import UpdateSettings

log = logging.getLogger("sirl")

ROUTERS = ("gate", "router", "shared_expert_gate", "classifier")
"""Names of layers that choose experts: small changes there send a token elsewhere, and engines adapt none of them."""


class TargetError(SirlError):
    """A model with no layer that an adapter could be put on."""


def targets(model: PreTrainedModel) -> list[str]:
    """Names of the attention and MLP projections, sorted: of all linear layers but head and routers. Experts that are fused
    into one matrix of three dimensions are no layers; what else there is learns. Raises TargetError."""
    head = model.get_output_embeddings()
    layers = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head)
    plain = (name.removesuffix(".base_layer") for name, _ in layers if ".lora_" not in name)  # with an adapter or without
    if not (found := sorted({name.rpartition(".")[2] for name in plain}.difference(ROUTERS))):
        raise TargetError("This model has no linear layer that a LoRA adapter could be put on: guard it without learning.")
    return found


def fused_experts(model: PreTrainedModel) -> bool:
    """Whether a mixture's experts are matrices of three dimensions (expert, out, in), which LoRA does not reach."""
    plain = (layer for layer in model.modules() if not isinstance(layer, nn.modules.conv._ConvNd))
    return any(weight.ndim == 3 for layer in plain for weight in layer.parameters(recurse=False))


def lora(model: PreTrainedModel, settings: UpdateSettings) -> LoraConfig:
    """The configuration of an update's adapter. Raises TargetError."""
    names = targets(model)
    if fused_experts(model):
        log.warning("The experts of this model are fused, which LoRA does not reach: only %s learn.", ", ".join(names))
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # PEFT says int, and divides by any number
        target_modules=names,
        task_type="CAUSAL_LM",
    )
