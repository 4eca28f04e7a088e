"""The journal that keeps events while the database is away: JSON lines, each append durable."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from online.events.event import Event
from online.state.errors import StateError
from online.state.files import append_durably, write_atomic
from online.state.locks import exclusive

logger = logging.getLogger(__name__)

# A database that stays away must not fill the disk; beyond this events stay in memory and new ones are shed.
_MAX_BYTES = 1 << 30


class Journal:
    """The journal of one state directory, shared by the processes that use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether it could not be used the last time; what it holds then waits, and holds nothing else up."""
        return self._broken

    def _report(self, error: OSError | StateError | None) -> None:
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
            if self.path.exists() and self.path.stat().st_size > _MAX_BYTES:
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
        prepare: Callable[[Sequence[Event]], Sequence[Event]] = lambda events: events,
    ) -> int:
        """Stores all it holds, in order and prepared, for who wrote it may have kept more than we may; then empties it. What
        was stored before is skipped by its id.

        Returns the number of new rows. Raises what `store` raises; the journal then stays.
        """
        stored = 0
        try:
            # Its lock keeps other processes that share the directory from appending or replaying meanwhile.
            with exclusive(self.path) as handle:
                events = (event for _, event in self._parsed(handle))
                while batch := list(islice(events, batch_size)):
                    stored += store(prepare(batch))
                os.ftruncate(handle, 0)
                os.fsync(handle)
        except OSError as error:
            self._report(error)
        else:
            self._report(None)
        return stored

    def remove(self, gone: Callable[[Event], bool]) -> list[str]:
        """Takes events out of the journal and returns their ids. It is rewritten beside itself and put in its own place: a
        death on the way leaves it whole. Raises OSError or StateError."""
        if self.empty():
            return []
        kept, removed = [], []
        with exclusive(self.path) as handle:
            for line, event in self._parsed(handle):
                if gone(event):
                    removed.append(event.id)
                else:
                    kept.append(line if line.endswith(b"\n") else line + b"\n")
            if removed:
                write_atomic(self.path, b"".join(kept))
        return removed

    def _parsed(self, handle: int) -> Iterator[tuple[bytes, Event]]:
        with open(os.dup(handle), "rb") as lines:
            lines.seek(0)
            for line in lines:
                if line.isspace():
                    continue
                try:
                    yield line, Event.from_json(line)
                except ValueError:
                    # A process killed while it appended: that line was never acknowledged as durable.
                    logger.warning("%s holds a torn line, which is skipped", self.path)
