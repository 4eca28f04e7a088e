"""Request bodies: how much of one is read, and which of its fields are ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Message, Receive

from serving.request.errors import RefusedRequest

PROMPTS = ("/v1/", "/v2/", "/inference/", "/cohere/", "/invocations", "/tokenize", "/detokenize", "/generative_scoring")
"""Routes that take prompts, which may be long."""
SMALL = 64 << 10
"""Bytes that any other route takes."""
WORDS = (b'"guard"', b'"store"', b'"use_beam_search"', b"@v", b"@base", b"\\u")
"""One of them is in a body that we have to read: a member of ours, a model with a version, or a name that may be escaped."""


def limit(path: str, most: int, *, internal: bool) -> int:
    """How many bytes a body to this route may have; our own processes send rollouts to administration."""
    return most if internal or path.startswith(PROMPTS) else SMALL


def too_large(most: int, largest: int) -> RefusedRequest:
    if most < largest:
        return RefusedRequest(
            413, f"The body is larger than the {most >> 10} KiB that a route without prompts takes: send less."
        )
    return RefusedRequest(413, f"The body is larger than the {most >> 20} MiB that guard.max_body_mib allows: send less.")


def claims(headers: Mapping[bytes, bytes]) -> int:
    """The length that a body says it has, in bytes; 0 where it says none. A number of more digits than any body has is one
    that no limit allows."""
    said = headers.get(b"content-length", b"").lstrip(b"0")
    return int(said[:18]) if said.isdigit() else 0


async def drink(receive: Receive, most: int) -> tuple[bytes, list[Message]] | None:
    """The whole request body, and any message that came after or instead of it (a disconnect). None as soon as it is longer
    than `most` bytes."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks), [message]
        chunks.append(message.get("body", b""))
        if (size := size + len(chunks[-1])) > most:
            return None
        if not message.get("more_body"):
            return b"".join(chunks), []


def pour(body: bytes, messages: Sequence[Message], receive: Receive) -> Receive:
    """A `receive` that gives the body once and then whatever the connection says."""
    queue: list[Message] = [{"type": "http.request", "body": body, "more_body": False}, *messages]

    async def again() -> Message:
        return queue.pop(0) if queue else await receive()

    return again


def ours(body: bytes) -> dict[str, Any] | None:
    """The body as the server decodes it, where it may have something for us; None where it has nothing or is no object.

    The server reads UTF-8, UTF-16 and UTF-32, each with or without its mark. Only in the first, where a name is written as
    it is or escaped, can a search for bytes not miss one.
    """
    if json.detect_encoding(body) in ("utf-8", "utf-8-sig") and not any(word in body for word in WORDS):
        return None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None  # nor can the server, deeper in the stack
    return data if isinstance(data, dict) else None
