"""Review: operators approve, exclude or redact prompts, and exclude clients. Each act goes to the audit log."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from typing import Any, Literal

from guard.errors import SirlError
from online.admission.queue import Queue
from online.admission.queued import FATES, Queued
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash
from online.events.redaction import Redaction, without_text
from online.state.directory import StateDir
from online.state.files import read_json, write_atomic

Decision = Literal["approve", "exclude", "reset"]
STORED: dict[Decision, str | None] = {"approve": "approved", "exclude": "excluded", "reset": None}
"""What the buffer notes of a decision; None: nothing any more."""
SUMMARY = "queue.json"
"""In the state directory: how many prompts met which fate, as the learner last saw it."""
STALE_S = 7200.0
"""After which it says nothing any more."""


class ReviewError(SirlError):
    """A decision about something that is not there."""


def review(state: StateDir, buffer: Buffer, kind: str, names: Collection[str], decision: Decision, actor: str) -> None:
    """Decide about "prompt"s or "client"s, by their hashes; of a client that is excluded nothing is learned, and approval is
    for prompts alone. Raises ReviewError."""
    if wrong := next((name for name in names if not re.fullmatch(r"[0-9a-f]{32}", name)), None):
        raise ReviewError(f"{wrong!r} is no hash of a {kind}: `sirl queue` lists them.")
    if kind == "client" and decision == "approve":
        raise ReviewError("a client cannot be approved, only its prompts.")
    state.audit("queue.reviewed", kind=kind, names=sorted(names), decision=decision, actor=actor)
    buffer.review(kind, names, STORED[decision])


def redact_prompts(
    state: StateDir,
    buffer: Buffer,
    model: str,
    prompts: Collection[str],
    redaction: Redaction,
    actor: str,
) -> int:
    """Redact what is stored of these prompts (hashes), and of the answers to them; where the rules find nothing more in one,
    it is kept without any text. Returns the number of events; what was decided of a prompt is carried over."""
    salt, wanted = state.client_salt(), set(prompts)

    def name(event: Event) -> str:
        return prompt_hash(event.prompt_tokens, salt)

    found = [event for event in buffer.events(model=model) if name(event) in wanted]
    if not found:
        raise ReviewError("no event has such a prompt: `sirl queue` lists their hashes.")
    state.audit("queue.redacted", names=sorted(wanted), events=len(found), actor=actor)
    decided = buffer.reviews("prompt")
    for event, less in zip(found, redaction(found), strict=True):
        if less is None or less.prompt == event.prompt:
            less = without_text(event, salt)
        if decision := decided.get(name(event)):
            buffer.review("prompt", [name(less)], decision)
        buffer.replace([less])
    buffer.scrub()
    return len(found)


def summarise(state: StateDir, queue: Queue) -> None:
    """Leave the counts where the endpoint, which exports them, finds them. Raises StateError."""
    write_atomic(state.path / SUMMARY, json.dumps({"time": time.time(), "counts": queue.counts()}))


def summary(state: StateDir) -> dict[str, int]:
    """Prompts by fate as the learner last saw them; nothing where that is long ago."""
    found = read_json(state.path / SUMMARY)
    return found["counts"] if found and time.time() - found["time"] < STALE_S else dict.fromkeys(FATES, 0)


def described(one: Queued, *, text: bool) -> dict[str, Any]:
    """A queued prompt for JSON, with its text or without."""
    event = one.event
    about = {"prompt": one.prompt, "time": event.time, "fate": one.fate, "why": one.why, "clients": sorted(one.clients)}
    return {**about, "event_id": event.id, **({"text": event.prompt, "token": one.token} if text else {})}
