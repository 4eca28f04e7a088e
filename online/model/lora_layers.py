"""LoRA layers that add their adapter in two products of the base's precision: y = W x + s B (A x).

PEFT keeps A and B in float32, and takes input, products, sum and result through it. Under a base in bfloat16 a gradient then
takes half as long again. Here A and B are rounded for the products alone, as engines serve them. Gradients reach them in
float32, and so does the optimiser.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn


def two_products(model: nn.Module) -> None:
    """Have the LoRA layers of a model compute so. Once more after each adapter that is added, which may bring layers."""
    for layer in model.modules():
        if type(layer) is Linear:
            layer.__class__ = TwoProducts


class TwoProducts(Linear):
    """PEFT's layer, which leaves to it what is no plain LoRA of one active adapter."""

    def forward(self, states: Tensor, *more: Any, **named: Any) -> Tensor:  # type: ignore[override]
        """(..., in) -> (..., out)."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if more or named or self.merged or (names and not self.disable_adapters and not self._plain(names)):
            found: Tensor = super().forward(states, *more, **named)
            return found
        base: Tensor = self.base_layer(states)
        if self.disable_adapters or not names:
            return base
        kept: list[Tensor] = [matrices[names[0]].weight for matrices in (self.lora_A, self.lora_B)]  # type: ignore[misc]
        down, up = (matrix.to(states.dtype) for matrix in kept)
        narrow = states.flatten(0, -2) @ down.T
        return torch.addmm(base.flatten(0, -2), narrow, up.T, alpha=self.scaling[names[0]]).view_as(base)

    def _plain(self, names: list[str]) -> bool:
        """Whether it is one adapter, without dropout, bias, or a variant such as DoRA."""
        if len(names) > 1:
            return False
        name = names[0]
        kept = self.lora_dropout[name], self.lora_B[name].bias
        return isinstance(kept[0], nn.Identity) and kept[1] is None and name not in self.lora_variant
