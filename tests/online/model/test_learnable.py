"""Models whose opening trees would tell something else than they do are refused, by configuration and by behaviour."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig

import models
from online.model.learnable import OPENING, inexact, narrow_window, tree_error, unlearnable
from online.model.local_model import LocalModel, ModelError
from tests.online.tiny_model import save_tiny, tiny_llm, tiny_tokenizer

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
QWEN3_NEXT = {
    "layer_types": ["linear_attention", "full_attention"],
    "num_experts": 0,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
BAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1]}
MAMBA = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}


def config_of(name: str, **more: object) -> PreTrainedConfig:
    found: PreTrainedConfig = getattr(transformers, f"{name}Config")(**{**SIZES, **more})
    return found


def random_model(config: PreTrainedConfig) -> LocalModel:
    """A model of a configuration, its weights large enough that each token tells."""
    model = AutoModelForCausalLM.from_config(config)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return LocalModel(model, tiny_tokenizer())


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Qwen3", {}),
        ("Llama", {}),
        ("Qwen2", {"sliding_window": 8, "use_sliding_window": False}),
        ("Gemma2", {"sliding_window": 64}),
        ("Gemma3Text", {"sliding_window": 64}),
        ("Mistral", {"sliding_window": None}),
    ],
)
def test_attention_that_sees_all_is_exact(name: str, more: dict) -> None:
    llm = random_model(config_of(name, **more))
    assert tree_error(llm) < 1e-4 and inexact(llm) is None
    assert inexact(LocalModel(llm.model.to(torch.bfloat16), llm.tokenizer)) is None


@pytest.mark.filterwarnings("ignore")  # of slow reference implementations
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Gemma2", {"sliding_window": 8}),
        ("Gemma3Text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
        ("Mistral", {"sliding_window": 8}),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
        ("Qwen3Next", QWEN3_NEXT),
        ("Bamba", BAMBA),
    ],
)
def test_layers_that_see_past_the_mask_are_found_by_what_they_do(name: str, more: dict) -> None:
    llm = random_model(config_of(name, **more))
    assert tree_error(llm) > 0.05
    assert "see past the mask of the opening tree" in (inexact(llm) or "")


@pytest.mark.filterwarnings("ignore")
def test_layers_that_take_no_such_mask_are_named_too() -> None:
    llm = random_model(transformers.MambaConfig(**MAMBA))
    assert "do not take the mask" in (inexact(llm) or "")


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, r"quantised \(awq\)"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantised \(fp8\)"),
        ({"vision_config": {"hidden_size": 8}}, "more than text"),
        ({"layer_types": ["linear_attention", "full_attention"]}, r"\(linear_attention\) carry a state"),
        ({"sliding_window": 512}, "set queue.prompt_tokens to 496 or less"),
        ({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"]}, "sees 512 tokens back"),
        ({"sliding_window": 4096, "layer_types": ["sliding_attention", "full_attention"]}, None),
        ({"sliding_window": 512, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 512, "use_sliding_window": False}, None),
        ({"quantization_config": None, "vision_config": None}, None),
    ],
)
def test_a_configuration_tells_before_weights_are_read(tmp_path: Path, declared: dict, reason: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["X"], **declared}))
    found = unlearnable(tmp_path, 1024)
    assert found is None if reason is None else re.search(reason, found or "")


def test_a_window_is_wide_enough_where_an_opening_fits_behind_the_longest_prompt() -> None:
    config = {"sliding_window": 100}
    assert narrow_window(config, 100 - OPENING) is None and narrow_window(config, 101 - OPENING) == 100
    assert narrow_window({"text_config": config}, 100) == 100, "one that sees images has it with its text"
    assert narrow_window({}, 10**6) is None


def test_our_models_and_tiny_ones_are_learnable(tmp_path: Path) -> None:
    assert unlearnable(models.bundled(), 1024) is None and unlearnable(save_tiny(tmp_path), 1024) is None
    assert inexact(tiny_llm()) is None and inexact(LocalModel.load(models.bundled())) is None


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "modelopt", "compressed-tensors"])
def test_quantised_weights_are_not_measured_as_something_else(tmp_path: Path, method: str) -> None:
    """transformers wants a package more, computes them unquantised, or passes the method over: each ends in a sentence."""
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    declared = {"quant_method": method, "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": declared}))
    with pytest.raises(ModelError, match="cannot be (loaded|computed)"):
        LocalModel.load(tmp_path)


def test_a_model_that_sees_images_is_measured_by_its_text(tmp_path: Path) -> None:
    """It can be guarded, so it can be calibrated."""
    text = transformers.Gemma3TextConfig(**SIZES).to_dict()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    tokens = {"mm_tokens_per_image": 4, "image_token_index": 39, "boi_token_index": 38, "eoi_token_index": 37}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, **tokens)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert inexact(LocalModel.load(tmp_path)) is None
    assert "more than text" in (unlearnable(tmp_path, 100) or "")
