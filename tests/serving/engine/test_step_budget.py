"""A step's tokens on CPUs: bounded by default, the operator's number before ours, and vLLM's exceptions kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import models

pytest.importorskip("vllm")

from transformers import WhisperConfig  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402

from serving.engine.step_budget import CPU_STEP, EngineArguments  # noqa: E402

STREAMS, VLLM_STEP = 128, 2048
"""Sequences and tokens of a step that vLLM takes on a CPU, for each worker."""
DRAFTS = {"method": "ngram", "num_speculative_tokens": 4}

pytestmark = pytest.mark.skipif(not current_platform.is_cpu(), reason="on other devices vLLM's own defaults hold")


@pytest.fixture(autouse=True)
def environment():
    """vLLM writes into it while it configures an engine."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, CPU_STEP + STREAMS),
        ({"tensor_parallel_size": 3}, 3 * (CPU_STEP + STREAMS)),
        ({"max_num_batched_tokens": 1000}, 1000),
        ({"max_num_seqs": 300}, CPU_STEP + 300),
        ({"max_num_seqs": 2000}, VLLM_STEP),
        ({"speculative_config": DRAFTS}, CPU_STEP + STREAMS * 5),
        ({"speculative_config": DRAFTS, "max_num_seqs": 10}, CPU_STEP + 10 * 5),
        ({"spec_method": "ngram", "spec_tokens": 4}, CPU_STEP + STREAMS * 5),
        ({"max_num_seqs": 1, "max_model_len": 100}, 100),
        ({"disable_chunked_mm_input": True}, VLLM_STEP),
        ({"enable_chunked_prefill": False, "max_model_len": 700}, 700),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, dict) else str(value),
)
def test_tokens_of_a_step(flags, expected):
    assert tokens_of_a_step(models.bundled(), **flags) == expected


def test_a_recording_that_is_encoded_in_one_step_has_room(tmp_path):
    WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    ).save_pretrained(tmp_path)
    assert tokens_of_a_step(tmp_path, skip_tokenizer_init=True) == VLLM_STEP


def tokens_of_a_step(model: Path, **flags) -> int:
    made = EngineArguments(model=str(model), **flags)
    config = made.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    return config.scheduler_config.max_num_batched_tokens
