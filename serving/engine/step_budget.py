"""How many tokens one step of the engine holds where the operator names no number (`--max-num-batched-tokens`)."""

from __future__ import annotations

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

CPU_STEP = 256
"""Tokens of a step on CPUs, for each worker. A step is as long as its tokens take, and every stream waits for it: 18 seconds
of a core for the 2,048 that vLLM takes, with a model of 0.5B. More tokens than these read no prompt faster, and fewer read
it slower (docs/explanation/engines.md)."""


class EngineArguments(AsyncEngineArgs):
    """vLLM's arguments with our bound among its defaults by hardware. So its exceptions hold: a model whose prompts or
    images cannot be read in parts gets as many tokens as one takes."""

    def get_batch_defaults(self, world_size: int) -> tuple[dict, dict]:  # type: ignore[override]  # asked of an instance only
        """(tokens, requests) of a step by usage, for so many workers."""
        tokens, requests = super().get_batch_defaults(world_size)
        if current_platform.is_cpu():
            # vLLM refuses a step that could not hold one token of each request.
            bound = max(CPU_STEP * world_size, self.max_num_seqs or 0)
            tokens = {usage: min(own, bound) for usage, own in tokens.items()}
        return tokens, requests
