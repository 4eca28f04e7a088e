"""The recipe's optimiser where bfloat16 is emulated: the same updates, in float32."""

from __future__ import annotations

import torch

from models.recipe.train import Float32


def test_muon_in_float32_takes_the_step_it_takes_in_bfloat16() -> None:
    def stepped(full: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(24, 40))
        weight.grad = torch.randn(24, 40, generator=generator)
        optimiser = torch.optim.Muon([weight], lr=1.0, weight_decay=0.0)
        if full:
            with Float32():
                optimiser.step()
        else:
            optimiser.step()
        return weight.detach()

    rounded, full = stepped(False), stepped(True)
    assert torch.equal(rounded, rounded.bfloat16().float()) and not torch.equal(full, full.bfloat16().float())
    assert torch.allclose(rounded, full, atol=0.02 * full.abs().max().item())
