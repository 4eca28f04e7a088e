"""API formats: how each OpenAI and Anthropic route writes an answer, and how a halted one.

One entry a route that the guard knows: where a halt shows in a whole body and in a stream, and on which frame the report
rides. A route that is not here is passed and counted while observing, and refused while enforcing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ApiFormat:
    """body, frame: change a decoded body, or a frame of a stream, so that the choices with these indices read as halted;
    last: bytes that every frame has which may end a choice; ends: whether a decoded frame ends the answer with this index;
    speaks: whether a decoded frame carries something of the model's, be it text, reasoning or a tool's arguments."""

    body: Callable[[Body, Collection[int]], None]
    frame: Callable[[Body, Collection[int]], None]
    last: tuple[bytes, ...]
    ends: Callable[[Body, int], bool]
    speaks: Callable[[Body], bool]


def choices_halted(body: Body, halted: Collection[int]) -> None:
    """OpenAI's chat and completions: `finish_reason`. A halted choice calls no tool, for half a call must not run."""
    for choice in body.get("choices", []):
        if choice.get("index") in halted and choice.get("finish_reason"):
            choice["finish_reason"] = "content_filter"
            choice["stop_reason"] = None
            message = choice.get("message") or choice.get("delta") or {}
            if message.get("tool_calls"):
                message["tool_calls"] = []


def choices_end(frame: Body, index: int) -> bool:
    return any(choice["index"] == index and choice.get("finish_reason") for choice in frame.get("choices", []))


def choices_speak(frame: Body) -> bool:
    """A first frame has a role and no more; a last one usage and no choice."""
    for choice in frame.get("choices", []):
        delta = choice.get("delta") or choice  # a completion's text lies on the choice itself
        calls = delta.get("tool_calls") or ()
        said = (delta.get("content"), delta.get("reasoning"), delta.get("text"))
        if any(said) or any((call.get("function") or {}).get("arguments") for call in calls):
            return True
    return False


HALTED_RESPONSE: Body = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


def response_halted(body: Body, halted: Collection[int]) -> None:
    """OpenAI's Responses API: incomplete, because of a content filter."""
    body |= HALTED_RESPONSE
    for item in body.get("output") or []:
        if item.get("type") == "message":
            item["status"] = HALTED_RESPONSE["status"]


def response_frame_halted(frame: Body, halted: Collection[int]) -> None:
    if frame.get("type") == "response.completed":
        frame["type"] = "response.incomplete"
        response_halted(frame["response"], halted)


def replayed(frame: Body) -> bool:
    """Make the last frame of a stored response read as it was told first; whether there was anything to make."""
    details = (frame.get("response") or {}).get("incomplete_details")
    if frame.get("type") != "response.completed" or details != HALTED_RESPONSE["incomplete_details"]:
        return False
    frame["type"] = "response.incomplete"
    return True


def response_ends(frame: Body, index: int) -> bool:
    """A response may take several calls of the model, where the server runs its tools itself: its end is the end of all."""
    return frame.get("type") in ("response.completed", "response.incomplete")


def response_speaks(frame: Body) -> bool:
    return frame.get("type", "").endswith(".delta") and bool(frame.get("delta"))


def message_halted(body: Body, halted: Collection[int]) -> None:
    """Anthropic's messages: the stop reason they have for it, and no tool to run."""
    body["stop_reason"], body["stop_sequence"] = "refusal", None
    content = [block for block in body.get("content") or [] if block.get("type") != "tool_use"]
    body["content"] = content or [{"type": "text", "text": ""}]


def message_frame_halted(frame: Body, halted: Collection[int]) -> None:
    if frame.get("type") == "message_delta":
        frame["delta"] |= {"stop_reason": "refusal", "stop_sequence": None}


def message_ends(frame: Body, index: int) -> bool:
    return frame.get("type") == "message_delta"


def message_speaks(frame: Body) -> bool:
    delta = frame.get("delta") or {}
    said = (delta.get("text"), delta.get("thinking"), delta.get("partial_json"))
    return frame.get("type") == "content_block_delta" and any(said)


CHOICES = ApiFormat(choices_halted, choices_halted, (b'"finish_reason":"',), choices_end, choices_speak)
API_FORMATS = {
    "/v1/chat/completions": CHOICES,
    "/v1/completions": CHOICES,
    "/v1/responses": ApiFormat(
        response_halted,
        response_frame_halted,
        (b"response.completed", b"response.incomplete"),
        response_ends,
        response_speaks,
    ),
    "/v1/messages": ApiFormat(message_halted, message_frame_halted, (b"message_delta",), message_ends, message_speaks),
}
