"""The response recorder: a finished answer gets its verdict, is counted, and may become an event."""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from guard.drift import Drift
from guard.policy import Action
from guard.verdict import Verdict
from online.events.clock import Clock
from online.events.event import Event, new_event_id
from serving.api_formats import API_FORMATS
from serving.engine.adapters import Adapters
from serving.metrics import Metrics
from serving.request.exchange import ServedAnswer

GAP_WINDOW = 500
"""Responses a side over which the live entropy gap is taken."""
GAP_LEAST = 20
"""Responses a side below which no gap is exported: a mean of a handful would only cry wolf."""


class Sink(Protocol):
    """Where events go; `offer` neither blocks nor raises, and says whether it took the event."""

    def wants(self, verdict: str, rng: random.Random) -> bool: ...
    def offer(self, event: Event) -> bool: ...


class ResponseRecorder:
    """Judges finished answers. Called on the server's event loop, between two tokens of others: it only computes."""

    def __init__(
        self,
        adapters: Adapters,
        sink: Sink,
        metrics: Metrics,
        decode: Callable[[Sequence[int]], str],
        *,
        model: str,
        compare: Callable[[ServedAnswer], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.adapters, self.sink, self.metrics, self.decode, self.model = adapters, sink, metrics, decode, model
        self.rng, self.clock = rng or random.Random(), Clock()
        self.compare = compare
        """What else is to be told of an answer to a client whose prompt can be asked again."""
        self._refusals: deque[float] = deque(maxlen=GAP_WINDOW)
        self._others: deque[float] = deque(maxlen=GAP_WINDOW)
        self._drifts: dict[str, Drift] = {}

    def finished(self, answer: ServedAnswer) -> None:
        """Give the answer its verdict; count and store it unless it is our own traffic or its client opted out."""
        answer.verdict = self.verdict(answer)
        request = answer.request
        if request.internal:
            return
        if unmeasured(answer):
            self.metrics.unreported.labels("guard_failure").inc()
        if request.beam_search:
            self.metrics.unreported.labels("beam_search").inc()
            self.count_tokens(answer)
            return
        if request.path not in API_FORMATS:
            self.metrics.unreported.labels("unknown_route").inc()
        if answer.adapter == "other" and request.policy.enforces:
            self.metrics.unreported.labels("exempt_module").inc()
        self.count(answer)
        teaches = request.store and answer.adapter != "other" and not answer.multimodal
        if teaches and self.sink.wants(answer.verdict_name, self.rng):
            event = self.event(answer)
            if self.sink.offer(event):
                answer.event_id = event.id
        if self.compare is not None and not answer.multimodal:  # base and version would be asked without the image
            self.compare(answer)

    def aborted(self, answer: ServedAnswer) -> None:
        """Count what its client walked away from, and its tokens: it gets no verdict, its end was not the model's."""
        if not answer.request.internal:
            self.metrics.unreported.labels("aborted").inc()
            self.count_tokens(answer)

    def failed(self, answer: ServedAnswer) -> None:
        """Count an answer the guard itself broke on: fail open, as befits a guard that observes."""
        answer.verdict = None
        self.metrics.unreported.labels("guard_failure").inc()

    def verdict(self, answer: ServedAnswer) -> Verdict:
        slot = self.adapters.slots.get(answer.adapter)
        if slot is None or slot.calibration is None or not answer.record.entropies:
            return Verdict.UNCALIBRATED
        record = answer.record
        if answer.action is Action.REDRAW:  # the sense called it harmless, and the rule let it pass
            return Verdict.PLAIN
        return slot.calibration.verdict(record.refusal_mass, record.opening_matched, record.entropy_mean, record.harm)

    def hesitated(self, answer: ServedAnswer) -> bool:
        """Whether the mass lay over the low band. The gap is taken among these by how they opened, entropy aside: a gap
        between verdicts, which entropy decides, would be there by construction."""
        slot, mass = self.adapters.slots.get(answer.adapter), answer.record.refusal_mass
        if answer.action is Action.REDRAW:  # the surest of several
            return False
        return bool(slot and slot.calibration and mass is not None and slot.calibration.serving_mass.band(mass) != "low")

    def count(self, answer: ServedAnswer) -> None:
        metrics, verdict, mean = self.metrics, answer.verdict_name, answer.record.entropy_mean
        metrics.verdicts.labels(verdict).inc()
        metrics.actions.labels(answer.action.value).inc()
        self.count_tokens(answer)
        self.follow(answer)
        if answer.record.harm is not None:
            metrics.harm.labels(verdict).observe(answer.record.harm)
        if mean != mean:
            return
        metrics.response_entropy.labels(verdict).observe(mean)
        if self.hesitated(answer):
            (self._refusals if answer.record.opening_matched else self._others).append(mean)
        if min(len(self._refusals), len(self._others)) >= GAP_LEAST:
            metrics.entropy_gap.set(statistics.fmean(self._others) - statistics.fmean(self._refusals))

    def follow(self, answer: ServedAnswer) -> None:
        """Hold the mass where the answer began against calibration's, route by route."""
        mass, root = answer.record.first_mass, answer.calibration.root if answer.calibration else ()
        if mass is None or not root:
            return
        route = answer.request.path if answer.request.path in API_FORMATS else "other"
        drift = self._drifts.get(route)
        if drift is None or drift.expected != root:  # another calibration has other masses
            drift = self._drifts[route] = Drift(root)
        drift.add(mass)
        self.metrics.root_drift.labels(route).set(drift.value)

    def count_tokens(self, answer: ServedAnswer) -> None:
        entropies = answer.record.entropies
        measured = sum(entropy == entropy for entropy in entropies)
        self.metrics.tokens.inc(measured)
        self.metrics.silent.inc(len(entropies) - measured)

    def event(self, answer: ServedAnswer) -> Event:
        """The answer as the learner gets it: prompt and response whole, as token ids and as text."""
        now, record = self.clock(), answer.record
        return Event(
            id=new_event_id(now),
            time=now,
            adapter=answer.adapter,
            verdict=answer.verdict_name,
            prompt=answer.prompt if answer.prompt is not None else self.decode(answer.prompt_tokens),
            prompt_tokens=answer.prompt_tokens,
            # What was withheld is nobody's any more: a halted answer is stored as its client got it.
            response=answer.text,
            response_tokens=answer.spoken or tuple(record.tokens),
            entropies=() if answer.spoken else tuple(record.entropies),
            entropy_mean=record.entropy_mean,
            refusal_mass=record.refusal_mass,
            finish_reason=answer.finish_reason,
            client=answer.request.client,
            model=self.model,
            block=answer.request.block,
            began=now - (monotonic() - answer.request.arrived),
        )


def unmeasured(answer: ServedAnswer) -> bool:
    """Whether the probe was silent where an answer that is only observed was decided; one under a rule was counted then."""
    record = answer.record
    silent = record.refusal_mass is None and bool(record.tokens) and not record.thinking
    return silent and bool(record.openings) and answer.rule is None
