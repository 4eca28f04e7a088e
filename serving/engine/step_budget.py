"""How many tokens one step of the engine holds where the operator names no number (`--max-num-batched-tokens`)."""

from __future__ import annotations

from typing import Any

from vllm.config import ModelConfig, ParallelConfig, SpeculativeConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

CPU_STEP = 256
"""Tokens of prompts in a step on CPUs, for each worker. A step is as long as its tokens take, and every stream waits for it:
18 seconds of a core for the 2,048 that vLLM takes, with a model of 0.5B. More tokens than these read no prompt faster, and
fewer read it slower (docs/explanation/engines.md)."""


class EngineArguments(AsyncEngineArgs):
    """vLLM's arguments with our bound among its defaults by hardware, and its exceptions kept."""

    whole = False
    """Whether an item of a prompt (an image, a recording) is read in one step, whatever it takes."""
    drafted = 0
    """Tokens that are drafted for each stream in a step (speculative decoding)."""

    def create_speculative_config(self, *args: Any, **named: Any) -> SpeculativeConfig | None:
        found = super().create_speculative_config(*args, **named)
        self.drafted = (found.num_speculative_tokens or 0) if found else 0
        return found

    def _set_default_max_num_seqs_and_batched_tokens_args(
        self, usage_context: UsageContext | None, model_config: ModelConfig, parallel_config: ParallelConfig
    ) -> None:
        self.whole = model_config.is_encoder_decoder or self.disable_chunked_mm_input
        super()._set_default_max_num_seqs_and_batched_tokens_args(usage_context, model_config, parallel_config)

    def get_batch_defaults(self, world_size: int) -> tuple[dict, dict]:  # type: ignore[override]  # asked of an instance only
        """(tokens, requests) of a step by usage, for so many workers: prompts have their tokens beside those of every
        stream, or many streams would leave them none."""
        tokens, requests = super().get_batch_defaults(world_size)
        if current_platform.is_cpu() and not self.whole:
            for usage, own in tokens.items():
                streams = self.max_num_seqs or requests[usage]
                tokens[usage] = min(own, CPU_STEP * world_size + streams * (1 + self.drafted))
        return tokens, requests
