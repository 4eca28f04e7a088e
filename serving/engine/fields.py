"""Sampling parameters and body fields of vLLM: what each does to the guard's measurements.

A parameter that is not here has not been thought about: a test holds the tables against the installed vLLM.
"""

from __future__ import annotations

from enum import StrEnum

from vllm.sampling_params import SamplingParams


class Effect(StrEnum):
    """What a parameter can do."""

    NONE = "none"
    """Nothing: raw logits are measured before it is applied. It changes how an answer is drawn, ends or is told."""
    STEERS = "steers"
    """It can force an opening, or keep the model from one: an opening is no refusal then (`steered`)."""
    SHIPS = "ships"
    """It decides whether and in what shape vLLM ships logprobs, which measurements ride with."""
    ORACLE = "oracle"
    """It asks how likely tokens were: where refusing was weighed that is for those alone who see all."""
    OURS = "ours"
    """The guard sets it, or reads its own marks there; what a client puts there is overwritten."""
    CHOICES = "choices"
    """It asks for several choices: each is measured and decided by itself."""
    PROMPT = "prompt"
    """It makes the prompt, and may move where the answer begins: the prompt's tokens are looked at (`Beginnings.moved`)."""
    WHO = "who"
    """It says what answers, or on whose behalf: read before the engine is asked."""
    BEAM = "beam"
    """Another way of generating, whose shape the guard does not know."""


EFFECTS = {
    **dict.fromkeys(
        (
            *("temperature", "top_p", "top_k", "min_p", "seed", "watermarking", "repetition_detection"),
            *("stop", "stop_token_ids", "ignore_eos", "max_tokens", "min_tokens", "thinking_token_budget"),
            *("detokenize", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output"),
            *("output_kind", "stream_interval", "output_text_buffer_length", "flat_logprobs"),
            *("_eos_token_id", "_all_stop_token_ids", "_watermarking_skipped"),
            *("skip_clone", "skip_reading_prefix_cache", "routed_experts_prompt_start"),
        ),
        Effect.NONE,
    ),
    **dict.fromkeys(("logit_bias", "allowed_token_ids", "bad_words", "_bad_words_token_ids"), Effect.STEERS),
    **dict.fromkeys(("structured_outputs", "trace_decode_token_ids"), Effect.STEERS),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), Effect.STEERS),
    **dict.fromkeys(("logprobs", "logprob_token_ids"), Effect.SHIPS),
    **dict.fromkeys(("prompt_logprobs", "prompt_logprob_token_ids", "prompt_logprob_start"), Effect.ORACLE),
    "extra_args": Effect.OURS,
    "n": Effect.CHOICES,
}

BODY_EFFECTS = {
    **dict.fromkeys(
        (
            *("messages", "prompt", "input", "instructions", "system", "suffix", "documents", "echo", "tools"),
            *("add_generation_prompt", "continue_final_message", "add_special_tokens"),
            *("chat_template", "chat_template_kwargs", "reasoning_effort", "reasoning", "thinking"),
            *("truncate_prompt_tokens", "truncation_side", "truncation", "prompt_embeds"),
            *("media_io_kwargs", "mm_processor_kwargs", "mm_payload", "return_mm_kwargs"),
            *("previous_response_id", "previous_input_messages"),
        ),
        Effect.PROMPT,
    ),
    **dict.fromkeys(("response_format", "text", "output_config", "tool_choice", "parallel_tool_calls"), Effect.STEERS),
    **dict.fromkeys(("top_logprobs", "include"), Effect.SHIPS),
    **dict.fromkeys(("model", "user", "store", "metadata", "request_id", "session_id"), Effect.WHO),
    **dict.fromkeys(("use_beam_search", "length_penalty"), Effect.BEAM),
    "vllm_xargs": Effect.OURS,
    **dict.fromkeys(
        (
            *("stream", "stream_options", "background", "priority", "service_tier"),
            *("max_completion_tokens", "max_output_tokens", "max_tool_calls", "stop_sequences", "include_reasoning"),
            *("return_token_ids", "return_tokens_as_token_ids", "return_token_offsets", "return_prompt_text"),
            *("enable_response_messages", "cache_salt", "prompt_cache_key", "kv_transfer_params", "ec_transfer_params"),
        ),
        Effect.NONE,
    ),
}
"""The members of request bodies that are no sampling parameter of the same name."""


def steered(params: SamplingParams) -> bool:
    """Whether a request can force an opening, or keep the model from one. Penalties do where they are turned around: they
    draw the model to what is in its prompt then."""
    drawn = params.repetition_penalty < 1 or params.presence_penalty < 0 or params.frequency_penalty < 0
    return drawn or bool(
        params.logit_bias
        or params.bad_words
        or params.allowed_token_ids
        or params.structured_outputs
        or params.trace_decode_token_ids
    )


def unsteered(params: SamplingParams) -> SamplingParams:
    """A copy by which a model draws of its own accord. A grammar stays: the client could not read anything else."""
    own = params.clone()
    own.logit_bias = own.allowed_token_ids = own.trace_decode_token_ids = own._bad_words_token_ids = None
    own.bad_words = []
    own.repetition_penalty = max(1.0, own.repetition_penalty)
    own.presence_penalty, own.frequency_penalty = max(0.0, own.presence_penalty), max(0.0, own.frequency_penalty)
    return own


def asks_of_the_prompt(params: SamplingParams) -> bool:
    """Whether how likely a prompt's tokens were is asked: one that ends in a refusal tells how much the model weighs it."""
    return params.prompt_logprobs is not None or params.prompt_logprob_token_ids is not None
