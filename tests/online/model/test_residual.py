"""Residual streams around the prompt's end are those of a plain transformers pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import models
from evaluation import load_suite
from guard.sense import Sense, TurnEnd
from online.model import shared_prefix
from online.model.local_model import LocalModel, ModelError
from online.model.residual import decoder_layers, harm_of, residuals, streams
from online.model.token_budget import Room, TokenBudget
from tests.online.model.paths import disturbed
from tests.online.tiny_model import random_prompts, tiny_llm


def plain(llm: LocalModel, prompt: tuple[int, ...], layers: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        out = llm.model(torch.tensor([prompt]), output_hidden_states=True, use_cache=False)
    return torch.stack([out.hidden_states[layer][0, -1] for layer in layers])


def test_on_the_bundled_model_they_are_those_of_a_plain_pass() -> None:
    llm = LocalModel.load(models.bundled())
    depth = len(decoder_layers(llm))
    layers = tuple(range(1, depth))
    asked = [llm.render(prompt.messages) for prompt in load_suite(models.suite("calibration"))[:9]]
    found = residuals(llm, asked, layers)
    twin = torch.stack([plain(llm, prompt, layers) for prompt in asked])
    assert found.shape == (9, 1, depth - 1, llm.model.config.hidden_size) and found.dtype == torch.float32
    torch.testing.assert_close(found[:, 0], twin, rtol=1e-4, atol=1e-4)


def test_the_last_layer_is_read_before_the_final_norm(llm: LocalModel) -> None:
    prompt = random_prompts(1)[0]
    found = residuals(llm, [prompt], (2,))[0, 0]
    normed = llm.model.get_decoder().norm(found)
    torch.testing.assert_close(normed, plain(llm, prompt, (2,)), rtol=1e-4, atol=1e-5)


def test_at_places_before_the_end_it_is_the_stream_of_the_prompt_up_to_there(
    llm: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of prompts that share almost all of their tokens too, where what is shared is passed once."""
    monkeypatch.setattr(shared_prefix, "WORTH", dict.fromkeys(shared_prefix.WORTH, 1.0))
    first = random_prompts(1)[0]
    prompts = [*random_prompts(7), *((*first, *first, token, 3) for token in range(9))]
    back = [(0, min(i % 4, len(prompt) - 1)) for i, prompt in enumerate(prompts)]
    found = residuals(llm, prompts, (1,), back)
    twin = torch.stack(
        [
            torch.stack([plain(llm, prompt[: len(prompt) - far], (1,)) for far in those])
            for prompt, those in zip(prompts, back, strict=True)
        ]
    )
    torch.testing.assert_close(found, twin, rtol=1e-4, atol=1e-5)
    assert llm.laid_out(prompts[7:], rest=4).shared == 2 * len(first) - 2 < llm.laid_out(prompts[7:]).shared


def test_a_place_that_a_prompt_has_not_is_not_read(llm: LocalModel) -> None:
    prompts = random_prompts(3)
    found, ends = residuals(llm, prompts, (1,), [(0, None), (0, 1), (None, 1)]), residuals(llm, prompts, (1,))
    assert found.isfinite().all(3).all(2).tolist() == [[True, False], [True, True], [False, True]]
    torch.testing.assert_close(found[:2, :1], ends[:2], rtol=1e-4, atol=1e-5)


def test_h_of_prompts_is_what_the_sense_reads_there(llm: LocalModel) -> None:
    prompts = [(*prompt, 3, 4) for prompt in random_prompts(5)] + [(9, 9)]
    weights = np.random.default_rng(0).normal(size=(2, 2, 32)).astype(np.float32)
    sense = Sense((1, 2), weights, 0.5, places=("prompt_end", "user_end"), turn_end=TurnEnd((3, 4)))
    states = residuals(llm, prompts[:5], (1, 2), [(0, 2)] * 5).numpy()
    found = harm_of(llm, prompts, sense)
    np.testing.assert_allclose(found[:5], 0.5 + np.einsum("npld,pld->n", states, weights), rtol=1e-4)
    assert np.isnan(found[5]), "nothing ends the user's words there"
    decoder_layers(llm)[0].register_forward_hook(lambda module, given, out: out * torch.inf)
    assert np.isnan(harm_of(llm, prompts, sense)).all()


def test_batches_and_order_change_nothing(llm: LocalModel) -> None:
    prompts = random_prompts(11)
    whole = residuals(llm, prompts, (1, 2))
    llm.budget = TokenBudget(*[Room(25, 0)] * 3)
    torch.testing.assert_close(residuals(llm, prompts, (1, 2)), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(residuals(llm, prompts[::-1], (2, 1)).flip(0, 2), whole, rtol=1e-4, atol=1e-5)


def test_of_an_adapter_it_is_the_adapters_stream(llm: LocalModel) -> None:
    prompts = random_prompts(3)
    before = residuals(llm, prompts, (2,))
    disturbed(llm, "a")
    with llm.adapter("a"):
        assert not torch.allclose(residuals(llm, prompts, (2,)), before, atol=1e-3)
    torch.testing.assert_close(residuals(llm, prompts, (2,)), before)


def test_whatever_the_model_is_in_they_come_in_fp32() -> None:
    found = residuals(tiny_llm(dtype=torch.bfloat16), random_prompts(2), (1,))
    assert found.dtype == torch.float32 and found.isfinite().all()


def test_nothing_is_left_hooked(llm: LocalModel) -> None:
    residuals(llm, random_prompts(2), (1, 2))
    assert not any(layer._forward_hooks for layer in decoder_layers(llm))
    with pytest.raises(RuntimeError), streams(llm, (1,), (-1,)):
        raise RuntimeError("in between")
    assert not any(layer._forward_hooks for layer in decoder_layers(llm))


def test_only_the_columns_asked_for_are_kept(llm: LocalModel) -> None:
    prompt = torch.tensor([random_prompts(1)[0]])
    with streams(llm, (1, 2), (-1, -2)) as read, torch.no_grad():
        llm.model(prompt)
    assert read[1].shape == (1, 2, 32) and read[1].untyped_storage().nbytes() == 2 * 32 * 4


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_a_layer_that_is_not_there_is_said(llm: LocalModel, layer: int) -> None:
    with pytest.raises(ModelError, match=f"has 2 layers and no layer {layer}"):
        residuals(llm, random_prompts(1), (1, layer))


def test_an_empty_prompt_is_said_and_no_prompt_is_nothing(llm: LocalModel) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        residuals(llm, [(5, 6), ()], (1,))
    assert residuals(llm, [], (1, 2)).shape == (0, 1, 2, 32)


def test_a_model_without_a_list_of_layers_is_said(llm: LocalModel) -> None:
    llm.model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="Qwen3ForCausalLM were not found"):
        decoder_layers(llm)


def test_a_stream_that_overflows_comes_as_it_is() -> None:
    llm = tiny_llm()
    decoder_layers(llm)[0].register_forward_hook(lambda module, given, out: out * torch.inf)
    assert not np.isfinite(residuals(llm, random_prompts(1), (1,)).numpy()).any()
