"""What an adapter is put on: attention and MLP projections by name, whatever the architecture; never head or router."""

from __future__ import annotations

import pytest
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
)

import models
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.training.targets import TargetError, fused_experts, lora, targets
from tests.online.tiny_model import END, VOCABULARY, tiny_model, tiny_tokenizer

SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END,
}  # fmt: skip
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
WHOLE = sorted(["down_proj", "gate_proj", "up_proj", *ATTENTION])


def built(config: PreTrainedConfig) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("config", "names", "fused"),
    [
        (None, WHOLE, False),
        (Phi3Config(**SHAPE), ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"], False),
        (Qwen3MoeConfig(**SHAPE, **MIXTURE, head_dim=16), ATTENTION, True),
        (Qwen2MoeConfig(**SHAPE, **MIXTURE, shared_expert_intermediate_size=16), WHOLE, True),
    ],
    ids=["plain", "projections in one", "experts", "experts and a shared one"],
)
def test_projections_are_named_and_nothing_else_learns(
    config: PreTrainedConfig | None, names: list[str], fused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model() if config is None else built(config)
    assert (targets(model), fused_experts(model)) == (names, fused)
    llm = LocalModel(model, tiny_tokenizer())
    llm.add_adapter("a", lora(model, UpdateSettings(lora_rank=4)))
    learning = {name.partition(".lora_")[0].rpartition(".")[2] for name, _ in model.named_parameters() if ".lora_" in name}
    assert sorted(learning) == names
    assert ("experts of this model are fused" in caplog.text) is fused
    assert targets(llm.model) == names, "with an adapter the same are found"


def test_the_bundled_models_are_those_that_it_always_had() -> None:
    assert targets(LocalModel.load(models.bundled()).model) == WHOLE


def test_a_model_without_such_layers_is_refused() -> None:
    model = built(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=END))
    with pytest.raises(TargetError, match="no linear layer"):
        targets(model)
