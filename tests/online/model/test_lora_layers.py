"""LoRA layers of two products against PEFT's own."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear

from online.model.local_model import LocalModel
from online.model.lora_layers import TwoProducts
from tests.online.model.paths import LORA, disturbed
from tests.online.tiny_model import tiny_llm

STATES = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1))


def layer_of(llm: LocalModel) -> Linear:
    """The first LoRA layer that reads the residual stream."""
    return next(m for m in llm.model.modules() if isinstance(m, Linear) and m.in_features == 32)


def both(llm: LocalModel, states: torch.Tensor = STATES) -> tuple[torch.Tensor, torch.Tensor]:
    layer = layer_of(llm)
    return layer(states), Linear.forward(layer, states)


def test_every_lora_layer_computes_so(llm: LocalModel) -> None:
    disturbed(llm, "a")
    layers = [m for m in llm.model.modules() if isinstance(m, Linear)]
    assert layers and {type(layer) for layer in layers} == {TwoProducts}


def test_the_products_and_their_gradients_are_pefts(llm: LocalModel) -> None:
    parameters = disturbed(llm, "a")
    with llm.adapter("a"):
        ours, pefts = both(llm)
        mine = [p for p in parameters if any(p is q for q in layer_of(llm).parameters())]
        gradients = [torch.autograd.grad(out.square().sum(), mine) for out in (ours, pefts)]
    torch.testing.assert_close(ours, pefts)
    assert len(mine) == 2
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_in_bfloat16_it_is_as_near_to_the_exact_sum_as_peft() -> None:
    llm = tiny_llm(dtype=torch.bfloat16)
    disturbed(llm, "a")
    states = STATES.bfloat16()
    with llm.adapter("a"), torch.no_grad():
        ours, pefts = both(llm, states)
        layer = layer_of(llm)
        exact = states.double() @ (layer.base_layer.weight.double() + layer.get_delta_weight("a").double()).T
    assert ours.dtype == torch.bfloat16
    apart = [(one.double() - exact).square().mean().sqrt().item() for one in (ours, pefts)]
    assert apart[0] < 1.5 * apart[1]


def test_the_matrices_stay_in_float32_and_so_do_their_gradients() -> None:
    llm = tiny_llm(dtype=torch.bfloat16)
    parameters = disturbed(llm, "a")
    with llm.adapter("a"):
        read, _, _ = llm.response_logits([(5, 6)], [(7, 8)])
        read.whole().square().mean().backward()
    assert {p.dtype for p in parameters} == {torch.float32}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.abs().sum() > 0 for p in parameters)


def test_without_an_adapter_it_is_the_base_to_the_bit(llm: LocalModel) -> None:
    disturbed(llm, "a")
    layer = layer_of(llm)
    with llm.adapter(None):
        assert torch.equal(layer(STATES), layer.base_layer(STATES))


@pytest.mark.filterwarnings("ignore:.*lora_bias=True")
@pytest.mark.parametrize("kind", [{"use_dora": True}, {"lora_dropout": 0.5}, {"lora_bias": True}])
def test_what_is_no_plain_lora_is_left_to_peft(llm: LocalModel, kind: dict, monkeypatch) -> None:
    llm.add_adapter("a", LoraConfig(**{**LORA.to_dict(), "target_modules": ["q_proj"], **kind}))
    layer, asked = layer_of(llm), []
    monkeypatch.setattr(Linear, "forward", lambda self, states, *more, **named: asked.append(self) or states)
    with llm.adapter("a"):
        layer(STATES)
    assert asked == [layer]


def test_two_adapters_at_once_are_left_to_peft(llm: LocalModel) -> None:
    disturbed(llm, "a", 1)
    disturbed(llm, "b", 2)
    layer = layer_of(llm)
    with llm.adapter("a"):
        layer.set_adapter(["a", "b"])
        torch.testing.assert_close(*both(llm))
        assert not torch.allclose(layer(STATES), layer.base_layer(STATES))
