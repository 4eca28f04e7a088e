"""Attention without copies of keys and values is attention, and so is its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from online.model.attention import NAME, attend_so, seeing_itself
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from tests.online.model.paths import TREE, disturbed
from tests.online.tiny_model import random_prompts, tiny_llm


def grouped_model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=60, hidden_size=56, intermediate_size=32, num_hidden_layers=2, num_attention_heads=14,
                         num_key_value_heads=2, max_position_embeddings=64)  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("masked", [True, False])
def test_it_is_what_transformers_computes(columns: int, masked: bool) -> None:
    plain, ours = grouped_model(), grouped_model()
    attend_so(ours)
    assert (plain.config._attn_implementation, ours.config._attn_implementation) == ("sdpa", NAME)
    ids = torch.randint(0, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = int(not masked)
    found = []
    for model in (plain, ours):
        with torch.no_grad():
            before = model(ids[:, :-columns], attention_mask=mask[:, :-columns], use_cache=True)
            after = model(ids[:, -columns:], attention_mask=mask, past_key_values=before.past_key_values)
        found.append(torch.cat([before.logits, after.logits], 1)[mask.bool()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_gradients_come_back_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for grouped in (True, False):
        with monkeypatch.context() as patch:
            if not grouped:
                patch.setattr("online.model.local_model.attend_so", lambda model: None)
            llm = LocalModel(grouped_model(), tiny_llm().tokenizer)
        parameters = disturbed(llm, "a")
        with llm.adapter("a"):
            mass = tree_mass(llm, random_prompts(4), TREE)
            found.append(torch.autograd.grad(mass.sum(), parameters))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_padding_sees_itself_and_nobody_sees_padding() -> None:
    """Else a kernel decides what a row without a key is, and a gradient through it may be no number."""
    real = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], dtype=torch.bool)
    whole = {"batch_size": 2, "attention_mask": real, "allow_is_causal_skip": False}
    mask = seeing_itself(q_length=5, kv_length=5, **whole)
    assert mask is not None and mask.any(-1).all()
    expected = torch.ones(5, 5, dtype=torch.bool).tril() & real[:, None, :] | torch.eye(5, dtype=torch.bool)
    assert torch.equal(mask.expand(2, 1, 5, 5)[:, 0], expected)
    later = seeing_itself(q_length=3, kv_length=5, q_offset=2, **whole)  # behind two that are cached
    assert later is not None and torch.equal(later.expand(2, 1, 3, 5)[:, 0], expected[:, 2:])


def test_a_gradient_through_padded_rows_is_theirs_alone() -> None:
    """By a kernel that makes NaN of a row without a key, as some of a GPU's do."""
    llm = LocalModel(grouped_model(), tiny_llm().tokenizer)
    parameters = disturbed(llm, "a")
    prompts, answers = [(5, 6, 7, 8, 9, 10), (11,)], [(12, 13), (14, 15)]
    found = []
    with llm.adapter("a"):
        for strict in (False, True):
            with sdpa_kernel_of_nan() if strict else nullcontext():
                logits, _, _ = llm.response_logits(prompts, answers)
                found.append(torch.autograd.grad(logits.whole().square().mean(), parameters))
    for ours, strictly in zip(*found, strict=True):
        assert strictly.isfinite().all()
        torch.testing.assert_close(ours, strictly, rtol=1e-3, atol=1e-6)


@contextmanager
def sdpa_kernel_of_nan() -> Iterator[None]:
    """torch's attention written out, where a row that sees nothing is 0 / 0."""

    def attend(query, key, value, attn_mask=None, scale=None, enable_gqa=False, **more):
        group = query.shape[1] // key.shape[1]
        key, value = (kept.repeat_interleave(group, 1) for kept in (key, value))
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        weights = scores.masked_fill(~attn_mask, -torch.inf).exp()
        return weights / weights.sum(-1, keepdim=True) @ value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("online.model.attention.scaled_dot_product_attention", attend)
        yield
