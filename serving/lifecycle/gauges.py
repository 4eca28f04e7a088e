"""Gauges of buffer, queue, learner and updates."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import time

from online.admission.review import summary
from online.events.buffer import BufferError
from online.events.writer import BufferWriter
from online.operations.installation import Installation
from online.updates import progress
from serving.lifecycle.problems import Problems
from serving.metrics import UPDATE_OUTCOMES, Metrics
from serving.processes.learner_process import LearnerProcess


class Gauges:
    """Measures an installation's background parts for /metrics; what is wrong with the buffer is a problem."""

    def __init__(
        self,
        installation: Installation,
        buffer: BufferWriter,
        learner: LearnerProcess,
        metrics: Metrics,
        problems: Problems,
    ) -> None:
        self.installation, self.buffer, self.learner = installation, buffer, learner
        self.metrics, self.problems = metrics, problems
        self._shed = self._refused = 0
        self._finished = {update["id"] for update in progress.finished(installation.state, set())}

    def measure(self) -> None:
        """Bring gauges and counters to what buffer, learner and updates are now."""
        metrics, buffer, state = self.metrics, self.buffer, self.installation.state
        metrics.buffer_events.set(buffer.size)
        metrics.buffer_pending.set(buffer.pending)
        metrics.buffer_failing.set(buffer.failing)
        metrics.buffer_shed.inc(buffer.shed - self._shed)
        self._shed = buffer.shed
        metrics.buffer_refused.inc(buffer.refused - self._refused)
        self._refused = buffer.refused
        metrics.learner_up.set(self.learner.running)
        away = "Its database cannot be written: events wait in the state directory's journal; mend it or its URL."
        self.problems.note("buffer", away if buffer.failing else None)
        self.problems.note("buffer's place", buffer.remark or None)
        for update in progress.finished(state, self._finished):
            self._finished.add(update["id"])
            metrics.updates.labels(update["status"] if update["status"] in UPDATE_OUTCOMES else "failed").inc()
            metrics.update_duration.observe(update["seconds"])
        metrics.update_progress.set(progress.ratio(state))
        for fate, count in summary(state).items():
            metrics.queue.labels(fate).set(count)

    async def count_contested(self) -> None:
        """Bring the gauge of waiting contested events up to date; the database is asked off the event loop."""

        def count() -> int:
            with self.installation.buffer() as buffer:
                last = progress.last_started(self.installation.state, 0.0)
                return buffer.contested_since(last, self.installation.fingerprint or "", time())

        with suppress(BufferError):  # the writer's own failure is reported by `measure`
            self.metrics.contested_waiting.set(await asyncio.to_thread(count))
