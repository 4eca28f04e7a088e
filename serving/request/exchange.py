"""The exchange: all that is known of one HTTP request, from the first byte of its body to the last of its answer."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from guard.calibration import Calibration
from guard.policy import Action, OverRefusal, Policy
from guard.record import ResponseRecord, mean
from guard.rule import Rule
from guard.sense import Sense
from guard.signals import probability
from guard.verdict import Verdict
from serving.request.guard_options import GuardOptions


@dataclass(slots=True)
class ServedAnswer:
    """One choice of one request: what the probe said of it and what the guard made of that."""

    request: Exchange
    index: int
    adapter: str
    record: ResponseRecord
    calibration: Calibration | None = None
    """What the adapter is judged by; None: nothing fits it, so nothing is touched."""
    sense: Sense | None = None
    """What the workers read of its prompt."""
    prompt: str | None = None
    """Its text, where vLLM rendered one: a long prompt takes long to decode, and the event loop serves everybody."""
    prompt_tokens: tuple[int, ...] = ()
    params: Any = None
    """vLLM's sampling parameters."""
    text: str = ""
    finish_reason: str = ""
    verdict: Verdict | None = None
    action: Action = Action.NONE
    spoken: tuple[int, ...] = ()
    """Token ids of the refusal that was given in the model's place."""
    multimodal: bool = False
    """Whether the prompt holds more than text: its tokens do not tell what was asked, so nothing is learned from it."""
    event_id: str | None = None

    @property
    def rule(self) -> Rule | None:
        """The rule that this answer is held to under enforcement; None: it is observed."""
        return self.request.rule(self.calibration)

    @property
    def needless(self) -> float | None:
        """Log-odds of harm up to which a refusal is drawn again; None: none is."""
        if self.rule is None or self.request.policy.over_refusal is OverRefusal.LEAVE or self.calibration is None:
            return None
        return None if self.calibration.sense is None else self.calibration.sense.needless

    @property
    def action_told(self) -> Action:
        """The action as its client may know it: a redraw tells how harmful the model finds the request."""
        return self.action if self.request.sees_all or self.action is not Action.REDRAW else Action.NONE

    @property
    def verdict_name(self) -> str:
        """The verdict as labels and reports write it; "uncalibrated" as long as there is none."""
        return (self.verdict or Verdict.UNCALIBRATED).value

    def entry(self) -> dict[str, object]:
        """This choice's entry of the `guard` list a client gets; entropies in nats, NaN as null. Under enforcement a key
        that is not trusted sees the action alone: the rest would tell an attacker how near the threshold was."""
        if not self.request.sees_all:
            return {"index": self.index, "action": self.action_told.value}
        record = self.record
        entry: dict[str, object] = {
            "index": self.index,
            "verdict": self.verdict_name,
            "action": self.action.value,
            "entropy": {
                "mean": number(record.entropy_mean),
                "max": number(record.entropy_max),
                "tokens": len(record.answer),
            },
            "refusal_mass": None if record.refusal_mass is None else number(record.refusal_mass),
            "harm": None if record.harm is None else number(probability(record.harm)),
            "adapter": self.adapter,
            "event_id": self.event_id,
        }
        reasons = record.openings is not None and record.openings.reasoning is not None
        if reasons and (reasoned := record.entropies[: record.reasoned]):
            entry["reasoning"] = {"mean": number(mean(reasoned)), "tokens": len(reasoned)}
        if self.request.options.trace:
            entry["per_token"] = [number(h) for h in record.entropies]
        return entry


@dataclass(slots=True)
class Exchange:
    """One HTTP request. `internal`: our own traffic, kept out of buffer, verdict counts and client metrics."""

    path: str = ""
    options: GuardOptions = GuardOptions()
    internal: bool = False
    store: bool = True
    client: str = ""
    block: str = ""
    beam_search: bool = False
    policy: Policy = Policy()
    adapter: str | None = None
    """The adapter asked for by name ("base" or "v<N>"); None: the live one, or the one on its way for some clients."""
    arrived: float = field(default_factory=monotonic)
    ttft: float | None = None
    """Seconds until its first byte of content left the server, where it is streamed and has."""
    answers: list[ServedAnswer] = field(default_factory=list)
    prompts: int = 0

    @property
    def sees_all(self) -> bool:
        """Whether verdicts, masses and entropies may be told."""
        return self.internal or self.policy.trusted or not self.policy.enforces

    def rule(self, calibration: Calibration | None) -> Rule | None:
        """The rule that a response under this calibration is held to; None: it is observed."""
        if self.internal or not self.policy.enforces or calibration is None:
            return None
        return calibration.rule if self.policy.threshold is None else calibration.rule.at(self.policy.threshold)

    def next_prompt(self) -> int:
        """The index of the next prompt handed to the engine: a completions request may carry several."""
        self.prompts += 1
        return self.prompts - 1

    def finished(self) -> list[ServedAnswer]:
        """The answers that have a verdict, by choice index."""
        return sorted((a for a in self.answers if a.verdict is not None), key=lambda a: a.index)


def number(value: float) -> float | None:
    """A float JSON can hold: NaN and infinities become null, the rest keep six decimals."""
    return round(value, 6) if abs(value) < float("inf") else None


current: ContextVar[Exchange | None] = ContextVar("sirl_request", default=None)
"""The request the running task serves; set by the middleware, read where the engine is called."""
