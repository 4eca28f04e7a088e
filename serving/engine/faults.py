"""What ends vLLM 0.32's engine, mostly its CPU build, for everybody: requests that are refused before they reach it, and one
that is helped over the place of the fault.

Found by sending them. When vLLM mends one, its line goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams


def fatal(params: SamplingParams, config: VllmConfig) -> str | None:
    """Why this request would end the engine, in a sentence; None for all others."""
    if params.logprob_token_ids and config.speculative_config is not None:
        # v1/sample/rejection_sampler.py joins whole rows of logprobs to those of the named tokens alone (vLLM #42592)
        return "logprob_token_ids end vLLM's engine under speculative decoding: leave them out."
    if config.device_config.device_type != "cpu":
        return None
    if params.prompt_logprobs is not None and config.lora_config is not None:
        # lora/ops/torch_ops/lora_ops.py, bgmv_shrink: a row a prompt token meets one LoRA index a sampled token
        return "Prompt logprobs (and echo with logprobs) end vLLM's CPU engine while LoRA is enabled: leave them out."
    cut = params.top_p < 1 or params.top_k > 0 or params.min_p > 0
    if cut and config.speculative_config is not None:
        # v1/sample/ops/topk_topp_sampler.py, apply_top_k_top_p: index out of bounds
        return "top_p, top_k and min_p end vLLM's CPU engine under speculative decoding: leave them out."
    return None


@contextmanager
def half_read_prompts_unseeded(runner) -> Iterator[None]:
    """Within it, sampling and what follows it know no generator of a request whose prompt is not read to its end.

    Prompts that do not fit into one step are read in pieces. With each piece vLLM samples a token, throws it away and winds
    the generator of a seeded request back, which a CPU generator cannot do (v1/worker/gpu_model_runner.py,
    _bookkeeping_sync). Without it there is nothing to wind back, and the first token that counts is its first draw.
    """
    batch, kept = runner.input_batch, {}
    if runner.device.type == "cpu":
        unread = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
        kept = {index: batch.generators.pop(index) for index in unread if index in batch.generators}
    try:
        yield
    finally:
        batch.generators.update(kept)
