"""The writer: moves events from the token path into the buffer, in the background, and loses none it took."""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from online.buffer import Buffer, BufferError
from online.event import SAMPLED, Event
from online.options import BufferSettings
from online.state import StateDir, append_durably, exclusive, write_all

logger = logging.getLogger(__name__)

_PRUNE_INTERVAL_S = 60.0
# A database that stays away must not fill the disk; beyond this events stay in memory and new ones are shed.
_SPILL_MAX_BYTES = 1 << 30


class Spill:
    """The journal that keeps events while the database is away: JSON lines, each append durable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether it could not be used the last time; what it holds then waits, and holds nothing else up."""
        return self._broken

    def _report(self, error: OSError | None) -> None:
        # Once, not at every attempt.
        if error is not None and not self._broken:
            logger.warning("the journal %s cannot be used (%s); events wait in memory", self.path, error)
        self._broken = error is not None

    def empty(self) -> bool:
        try:
            return self.path.stat().st_size == 0
        except OSError:
            return True  # none yet, or no directory either: there is nothing to replay

    def append(self, events: Sequence[Event]) -> bool:
        """Whether all of them are on disk now."""
        try:
            if self.path.exists() and self.path.stat().st_size > _SPILL_MAX_BYTES:
                return False
            append_durably(self.path, "".join(event.to_json() + "\n" for event in events).encode())
        except OSError as error:
            self._report(error)
            return False
        self._report(None)
        return True

    def replay(
        self,
        store: Callable[[Sequence[Event]], int],
        batch_size: int,
        prepare: Callable[[Event], Event] = lambda event: event,
    ) -> int:
        """Stores all it holds, in order and prepared, for who wrote it may have kept more than we may; then empties it. What
        was stored before is skipped by its id.

        Returns the number of new rows. Raises what `store` raises; the journal then stays.
        """
        stored = 0
        try:
            # Its lock keeps other processes that share the directory from appending or replaying meanwhile.
            with exclusive(self.path) as handle:
                events = map(prepare, self._parsed(handle))
                while batch := list(islice(events, batch_size)):
                    stored += store(batch)
                os.ftruncate(handle, 0)
                os.fsync(handle)
        except OSError as error:
            self._report(error)
        else:
            self._report(None)
        return stored

    def remove(self, gone: Callable[[Event], bool]) -> list[str]:
        """Takes events out of the journal; returns their ids. Raises OSError."""
        if self.empty():
            return []
        with exclusive(self.path) as handle:
            events = list(self._parsed(handle))
            kept = [event for event in events if not gone(event)]
            os.ftruncate(handle, 0)
            write_all(handle, "".join(event.to_json() + "\n" for event in kept).encode())
            os.fsync(handle)
        return [event.id for event in events if gone(event)]

    def _parsed(self, handle: int) -> Iterator[Event]:
        with open(os.dup(handle), "rb") as lines:
            lines.seek(0)
            for line in lines:
                if line.isspace():
                    continue
                try:
                    yield Event.from_json(line)
                except ValueError:
                    # A process killed while it appended: that line was never acknowledged as durable.
                    logger.warning("%s holds a torn line, which is skipped", self.path)


class BufferWriter:
    """Takes events without blocking or failing its caller, and writes them in batches from its own thread.

    An event that `offer` took is written to the database within about `flush_interval_s`; while the database
    is away, to the journal in the state directory, from where it is replayed; while that cannot be written
    either, it waits in memory. Only a kill within that interval, or at a full disk, loses it.

    Args:
        prepare: makes an event one that may be stored; called on the writer's thread.
        open_buffer: connects to the database; may raise BufferError, and is then tried again.
        state: where the journal lies.
        retry_s: seconds between two attempts to reach a database that is away.
    """

    def __init__(
        self,
        open_buffer: Callable[[], Buffer],
        state: StateDir,
        settings: BufferSettings,
        *,
        prepare: Callable[[Event], Event] = lambda event: event,
        retry_s: float = 1.0,
    ) -> None:
        self._open_buffer = open_buffer
        self._prepare = prepare
        self._settings = settings
        self._retry_s = retry_s
        self._spill = Spill(state.spill_path)
        self._buffer: Buffer | None = None
        self._pending: deque[Event] = deque()
        self._wake = threading.Condition()
        self._flushing = 0
        self._closing = False
        self._failing = False
        self._blocked = False
        self._retry_at = 0.0
        self._prune_at = 0.0
        self._size = 0
        self._shed = 0
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
            ready += map(self._prepare, batch[len(ready) :])
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
        if time.monotonic() < self._retry_at or (self._buffer is not None and self._spill.empty()):
            return
        self._retry_at = time.monotonic() + self._retry_s
        try:
            if self._buffer is None:
                self._buffer = self._open_buffer()
                self._size = sum(self._buffer.counts().values())
            if not self._spill.empty():
                self._size += self._spill.replay(self._buffer.append, self._settings.batch_size, self._prepare)
        except BufferError as error:
            self._fail(error)
        else:
            # Reading may work where writing does not (a full disk): with events waiting, the write decides.
            self._failing = self._failing and bool(self._pending)

    def _store(self, batch: Sequence[Event]) -> bool:
        """Whether the batch is on disk now."""
        # While the journal holds earlier events, later ones go behind them: replay keeps the order.
        if self._buffer is not None and (self._spill.empty() or self._spill.broken):
            try:
                self._size += self._buffer.append(batch)
                self._failing = False
                return True
            except BufferError as error:
                self._fail(error)
        return self._spill.append(batch)

    def _prune(self) -> None:
        if self._buffer is None or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + _PRUNE_INTERVAL_S
        try:
            self._buffer.prune(time.time())
            self._size = sum(self._buffer.counts().values())
        except BufferError as error:
            self._fail(error)

    def _fail(self, error: BufferError) -> None:
        if not self._failing:
            logger.warning("%s Events are kept in %s meanwhile.", error, self._spill.path)
        self._failing = True
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None
