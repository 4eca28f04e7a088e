"""The writer: a background thread that moves events from the token path into the buffer, and loses none it took."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from online.events.buffer import Buffer, BufferError, RefusedError
from online.events.clock import Clock
from online.events.event import SAMPLED, Event
from online.events.journal import Journal
from online.events.redaction import without_text
from online.settings.groups import BufferSettings
from online.state.directory import StateDir

logger = logging.getLogger(__name__)

_PRUNE_INTERVAL_S = 60.0


class BufferWriter:
    """Takes events without blocking or failing its caller, and writes them in batches from its own thread.

    An event that `offer` took is written to the database within about `flush_interval_s`; while the database
    is away, to the journal in the state directory, from where it is replayed; while that cannot be written
    either, it waits in memory. Only a kill within that interval, or at a full disk, loses it.

    Args:
        prepare: makes events ones that may be stored; called on the writer's thread.
        open_buffer: connects to the database; may raise BufferError, and is then tried again.
        state: where the journal lies.
        retry_s: seconds between two attempts to reach a database that is away.
        clock: unix time in seconds, by which events are too old.
    """

    def __init__(
        self,
        open_buffer: Callable[[], Buffer],
        state: StateDir,
        settings: BufferSettings,
        *,
        prepare: Callable[[Sequence[Event]], Sequence[Event]] = lambda events: events,
        retry_s: float = 1.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._open_buffer = open_buffer
        self._prepare = prepare
        self._settings = settings
        self._retry_s = retry_s
        self._clock = clock or Clock()
        self._journal = Journal(state.journal_path)
        self._salt = state.client_salt()
        self._buffer: Buffer | None = None
        self._pending: deque[Event] = deque()
        self._wake = threading.Condition()
        self._flushing = 0
        self._closing = False
        self._failing = False
        self._blocked = False
        self._retry_at = 0.0
        self._pruned_at: float | None = None
        self._remark = ""
        self._size = 0
        self._shed = 0
        self._refused = 0
        self._thread = threading.Thread(target=self._run, name="sirl-buffer", daemon=True)
        self._thread.start()

    def wants(self, verdict: str, rng: random.Random) -> bool:
        """Whether a response of this verdict is stored: the sampled verdicts by chance, all others always."""
        return verdict not in SAMPLED or rng.random() < self._settings.plain_rate

    def offer(self, event: Event) -> bool:
        """Takes the event, or sheds and counts it where the queue is full or closed; waits for no disk."""
        with self._wake:
            if self._closing or len(self._pending) >= self._settings.queue_size:
                self._shed += 1
                return False
            self._pending.append(event)
            if len(self._pending) >= self._settings.batch_size:
                self._wake.notify_all()
            return True

    @property
    def size(self) -> int:
        """Rows in the database, as last seen."""
        return self._size

    @property
    def shed(self) -> int:
        """Events refused since the start."""
        return self._shed

    @property
    def refused(self) -> int:
        """Events that the database refused for what they hold, since the start; kept without text where it takes that."""
        return self._refused

    @property
    def remark(self) -> str:
        """What there is to say of where the database lies."""
        return self._remark

    @property
    def pending(self) -> int:
        """Events in memory."""
        return len(self._pending)

    @property
    def failing(self) -> bool:
        """Whether the database is away (or the thread is gone, which is a defect)."""
        return self._failing or not (self._thread.is_alive() or self._closing)

    def flush(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all taken events are on disk, in database or journal."""
        with self._wake:
            self._flushing += 1
            self._wake.notify_all()
            try:
                return self._wake.wait_for(lambda: not self._pending, timeout)
            finally:
                self._flushing -= 1

    def close(self, timeout: float = 10.0) -> bool:
        """Flushes and stops; False, the loss logged and counted as shed, where events could not be kept."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(timeout)
        with self._wake:
            lost = len(self._pending)
            self._shed += lost
        if lost:
            logger.error("%d events were lost: neither the buffer nor its journal could be written", lost)
        return lost == 0

    def _run(self) -> None:
        ready: list[Event] = []  # the batch that waits, prepared: once, however often it is tried
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, self._pause())
                batch = list(islice(self._pending, self._settings.batch_size))
                closing = self._closing
            self._recover()
            if len(ready) < len(batch):
                ready += self._prepare(batch[len(ready) :])
            self._blocked = bool(batch) and not self._store(ready)
            if batch and not self._blocked:
                # Only now: until it is on disk an event stays in the queue, and counts against its bound.
                with self._wake:
                    for _ in batch:
                        self._pending.popleft()
                    self._wake.notify_all()
                ready.clear()
            self._prune()
            if closing and (self._blocked or not self._pending):
                break
        if self._buffer is not None:
            self._buffer.close()

    def _has_work(self) -> bool:
        if self._blocked:
            return self._closing
        return self._closing or bool(self._flushing and self._pending) or (len(self._pending) >= self._settings.batch_size)

    def _pause(self) -> float:
        return self._retry_s if self._blocked else self._settings.flush_interval_s

    def _recover(self) -> None:
        """Connects where there is no connection, and replays the journal where there is one."""
        if time.monotonic() < self._retry_at or (self._buffer is not None and self._journal.empty()):
            return
        self._retry_at = time.monotonic() + self._retry_s
        try:
            if self._buffer is None:
                self._buffer = self._open_buffer()
                self._size = sum(self._buffer.counts().values())
                self._remark = self._buffer.remark
            if not self._journal.empty():
                append = partial(self._append, self._buffer)
                self._size += self._journal.replay(append, self._settings.batch_size, self._prepare)
        except BufferError as error:
            self._fail(error)
        else:
            # Reading may work where writing does not (a full disk): with events waiting, the write decides.
            self._failing = self._failing and bool(self._pending)

    def _store(self, batch: Sequence[Event]) -> bool:
        """Whether the batch is on disk now."""
        # While the journal holds earlier events, later ones go behind them: replay keeps the order.
        if self._buffer is not None and (self._journal.empty() or self._journal.broken):
            try:
                self._size += self._append(self._buffer, batch)
                self._failing = False
                return True
            except BufferError as error:
                self._fail(error)
        return self._journal.append(batch)

    def _append(self, buffer: Buffer, events: Sequence[Event]) -> int:
        """Stores them, and without its text an event that the database refuses, which must not stand before the others for
        ever. Returns how many were new."""
        try:
            return buffer.append(events)
        except RefusedError as error:
            if len(events) > 1:
                half = len(events) // 2
                return self._append(buffer, events[:half]) + self._append(buffer, events[half:])
            if not self._refused:
                logger.warning("%s Such events are kept without their text; this is said once.", error)
            self._refused += 1
        try:
            return buffer.append([without_text(events[0], self._salt)])
        except RefusedError as error:
            self._shed += 1
            logger.error("%s It is refused without its text too, and lost.", error)
            return 0

    def _prune(self) -> None:
        now = time.monotonic()
        if self._buffer is None or (self._pruned_at is not None and now < self._pruned_at + _PRUNE_INTERVAL_S):
            return
        elapsed, self._pruned_at = now - (self._pruned_at or now), now
        try:
            self._buffer.prune(self._clock(), elapsed)
            self._size = sum(self._buffer.counts().values())
        except BufferError as error:
            self._fail(error)

    def _fail(self, error: BufferError) -> None:
        if not self._failing:
            logger.warning("%s Events are kept in %s meanwhile.", error, self._journal.path)
        self._failing = True
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None
