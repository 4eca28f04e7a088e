"""Attention without copies of keys and values is attention, and so is its gradient."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from online.model.attention import NAME, group_queries
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from tests.online.model.paths import TREE, disturbed
from tests.online.tiny_model import random_prompts, tiny_policy


def grouped_model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=60, hidden_size=56, intermediate_size=32, num_hidden_layers=2, num_attention_heads=14,
                         num_key_value_heads=2, max_position_embeddings=64)  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("masked", [True, False])
def test_it_is_what_transformers_computes(columns: int, masked: bool) -> None:
    plain, ours = grouped_model(), grouped_model()
    group_queries(ours)
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
                patch.setattr("online.model.local_model.group_queries", lambda model: None)
            policy = LocalModel(grouped_model(), tiny_policy().tokenizer)
        parameters = disturbed(policy, "a")
        with policy.adapter("a"):
            mass = tree_mass(policy, random_prompts(4), TREE)
            found.append(torch.autograd.grad(mass.sum(), parameters))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
