"""Every field of vLLM's sampling parameters and of the bodies the guard knows: what it does to the probe has been said.

A field that another version of vLLM brings fails here until somebody has thought about it.
"""

from __future__ import annotations

import msgspec
import pytest
from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from serving.engine.fields import BODY_EFFECTS, EFFECTS, Effect, asks_of_the_prompt, steered, unsteered


def test_every_sampling_parameter_has_an_effect():
    assert {field.name for field in msgspec.structs.fields(SamplingParams)} == set(EFFECTS)


def test_every_field_of_every_body_has_an_effect():
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    bodies = (ChatCompletionRequest, CompletionRequest, ResponsesRequest, AnthropicMessagesRequest)
    fields = {name for body in bodies for name in body.model_fields}
    said = {name for name in EFFECTS if not name.startswith("_")} | set(BODY_EFFECTS)
    assert fields - said == set() and set(BODY_EFFECTS) - fields == set()


STEERING = {
    "logit_bias": {5: 1.0},
    "allowed_token_ids": [5],
    "bad_words": ["no"],
    "_bad_words_token_ids": None,
    "structured_outputs": StructuredOutputsParams(regex="a"),
    "trace_decode_token_ids": [5],
    "presence_penalty": -0.5,
    "frequency_penalty": -0.5,
    "repetition_penalty": 0.5,
}


@pytest.mark.parametrize("name", [name for name, effect in EFFECTS.items() if effect is Effect.STEERS])
def test_what_steers_is_noticed_and_left_out_of_redraws(name):
    value = STEERING[name]
    if value is None:  # vLLM's own form of another one
        return
    params = SamplingParams(**{name: value})
    assert steered(params)
    assert steered(unsteered(params)) is (name == "structured_outputs")
    assert getattr(params, name), "the client's own are as they were"


def test_a_plain_request_is_not_steered():
    usual = SamplingParams(temperature=0.3, top_p=0.9, stop=["x"], presence_penalty=0.5, repetition_penalty=1.1, logprobs=5)
    assert not steered(usual) and not asks_of_the_prompt(usual)
    assert asks_of_the_prompt(SamplingParams(prompt_logprobs=0))
