"""The forms of an answer, and how each says that the guard ended it."""

from __future__ import annotations

import json

import pytest

from serving.api_formats import API_FORMATS
from tests.serving.request.edge import answered

EMPTY = {
    "/v1/chat/completions": [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]},
        {"choices": [], "usage": {"completion_tokens": 0}},
    ],
    "/v1/completions": [{"choices": [{"index": 0, "text": "", "finish_reason": None}]}],
    "/v1/responses": [
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.in_progress", "response": {}},
        {"type": "response.output_item.added", "item": {"content": []}},
        {"type": "response.output_text.delta", "delta": ""},
    ],
    "/v1/messages": [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ],
}
SPOKEN = {
    "/v1/chat/completions": [
        {"choices": [{"index": 1, "delta": {"content": "I"}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "Hm"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]},
    ],
    "/v1/completions": [{"choices": [{"index": 0, "text": "I"}]}],
    "/v1/responses": [
        {"type": "response.output_text.delta", "delta": "I"},
        {"type": "response.reasoning_text.delta", "delta": "Hm"},
        {"type": "response.function_call_arguments.delta", "delta": "{"},
    ],
    "/v1/messages": [
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "I"}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}},
    ],
}


@pytest.mark.parametrize("path", API_FORMATS)
def test_the_time_to_the_first_token_is_taken_at_the_first_frame_that_has_one(path):
    """Not at frames that open a response, nor at comments that keep a connection alive."""

    def count(*frames: dict) -> float:
        bodies = [b": keep-alive\n\n", *(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames)]
        _, given, metrics = answered(*((b"text/event-stream", body) for body in bodies), path=path)
        assert given == b"".join(bodies)
        return next(s.value for s in metrics.delivered_ttft.collect()[0].samples if s.name.endswith("_count"))

    assert count(*EMPTY[path]) == 0
    for spoken in SPOKEN[path]:
        assert API_FORMATS[path].speaks(spoken) and count(*EMPTY[path], spoken, spoken) == 1


@pytest.mark.parametrize("path", API_FORMATS)
def test_every_shape_has_a_word_for_a_halt(path):
    bodies = {
        "/v1/responses": {"status": "completed", "output": [{"type": "message", "status": "completed"}]},
        "/v1/messages": {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "x", "input": {}}]},
    }
    choices = {"choices": [{"index": i, "finish_reason": "tool_calls", "message": {"tool_calls": [1]}} for i in (0, 1)]}
    body = bodies.get(path, choices)
    API_FORMATS[path].body(body, {0})
    if path == "/v1/responses":
        assert body["status"] == body["output"][0]["status"] == "incomplete"
        assert body["incomplete_details"] == {"reason": "content_filter"}
    elif path == "/v1/messages":
        assert body["stop_reason"] == "refusal" and body["content"] == [{"type": "text", "text": ""}]
    else:
        assert [c["finish_reason"] for c in body["choices"]] == ["content_filter", "tool_calls"]
        assert [c["message"]["tool_calls"] for c in body["choices"]] == [[], [1]]
