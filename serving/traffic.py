"""What is known of one HTTP request, from the first byte of its body to the last of its answer."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic

from pydantic import BaseModel, ConfigDict

from guard.record import ResponseRecord
from guard.verdict import Action, Verdict

REPORTED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
"""Routes whose response body gets the report."""


class GuardOptions(BaseModel):
    """The `guard` object of a request body; unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    report: bool = True
    trace: bool = False


@dataclass(slots=True)
class Answer:
    """One choice of one request: what the probe said of it and what the guard made of that."""

    request: Request
    index: int
    adapter: str
    record: ResponseRecord
    prompt: str | None = None
    """Its text, where vLLM rendered one: a long prompt takes long to decode, and the event loop serves everybody."""
    prompt_tokens: tuple[int, ...] = ()
    text: str = ""
    finish_reason: str = ""
    verdict: Verdict | None = None
    action: Action = Action.NONE
    event_id: str | None = None

    @property
    def verdict_name(self) -> str:
        """The verdict as labels and reports write it; "uncalibrated" as long as there is none."""
        return (self.verdict or Verdict.UNCALIBRATED).value

    def entry(self) -> dict:
        """This choice's entry of the `guard` list a client gets; entropies in nats, NaN as null."""
        record = self.record
        entry: dict[str, object] = {
            "index": self.index,
            "verdict": self.verdict_name,
            "action": self.action.value,
            "entropy": {
                "mean": number(record.entropy_mean),
                "max": number(record.entropy_max),
                "tokens": len(record.entropies),
            },
            "refusal_mass": None if record.refusal_mass is None else number(record.refusal_mass),
            "adapter": self.adapter,
            "event_id": self.event_id,
        }
        if self.request.options.trace:
            entry["per_token"] = [number(h) for h in record.entropies]
        return entry


@dataclass(slots=True)
class Request:
    """One HTTP request. `internal`: our own traffic, kept out of buffer, verdict counts and client metrics."""

    path: str = ""
    options: GuardOptions = GuardOptions()
    internal: bool = False
    store: bool = True
    client: str = ""
    beam_search: bool = False
    adapter: str | None = None
    """The adapter an internal request asks for by name ("base" or "v<N>"); None: the live one."""
    arrived: float = field(default_factory=monotonic)
    answers: list[Answer] = field(default_factory=list)
    prompts: int = 0

    def next_prompt(self) -> int:
        """The index of the next prompt handed to the engine: a completions request may carry several."""
        self.prompts += 1
        return self.prompts - 1

    def finished(self) -> list[Answer]:
        """The answers that have a verdict, by choice index."""
        return sorted((a for a in self.answers if a.verdict is not None), key=lambda a: a.index)


def number(value: float) -> float | None:
    """A float JSON can hold: NaN and infinities become null, the rest keep six decimals."""
    return round(value, 6) if abs(value) < float("inf") else None


current: ContextVar[Request | None] = ContextVar("sirl_request", default=None)
"""The request the running task serves; set by the middleware, read where the engine is called."""
