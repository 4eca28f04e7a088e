"""live.json: the one file that says which adapter serves, written whole, read by every process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from online import OnlineError
from online.state import StateDir, write_atomic

# Entries kept of the history and of the way back.
HISTORY = 1_000


class RegistryError(OnlineError):
    """The registry, or a version in it, cannot be used as asked."""


@dataclass(frozen=True, slots=True)
class Live:
    """What serves.

    Attributes:
        version: None for the base.
        stack: what to go back to, the latest last; a rollback takes from its end.
        history: one entry a change: version, previous, time, actor, reason.
        revision: how many changes came before, wherever they were made; orders them though clocks differ.
    """

    version: int | None
    stack: tuple[int | None, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    revision: int = 0

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Of the file's content; raises ValueError, KeyError or TypeError where it is none."""
        document = json.loads(text)
        live = cls(document["version"], tuple(document["stack"]), tuple(document["history"]), document.get("revision", 0))
        for version in (live.version, *live.stack):
            if version is not None and (type(version) is not int or version < 1):
                raise ValueError(f"{version!r} is no version")
        if not all(isinstance(entry, dict) for entry in live.history):
            raise ValueError("its history is malformed")
        if type(live.revision) is not int:
            raise ValueError("its revision is malformed")
        return live

    @property
    def referred(self) -> frozenset[int]:
        """The versions that serve by it; the way back is another matter."""
        return frozenset() if self.version is None else frozenset({self.version})

    @property
    def order(self) -> tuple[int, str]:
        """The later of two writers' has the greater one."""
        return self.revision, str(self.history[-1].get("time", "")) if self.history else ""


class LivePointer:
    """Reads and replaces live.json; writers hold the registry's lock."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._path = state.registry / "live.json"

    def stamp(self) -> tuple[int, int, int]:
        """Changes whenever the file does; all zero without one."""
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        # The inode too: two quick activations may share size and clock tick, but not the file.
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def read(self) -> Live:
        """What serves; the base where nothing was ever activated.

        Raises:
            RegistryError: the file is damaged.
        """
        try:
            return Live.parse(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return Live(None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"{self._path} is damaged ({error}); activate a version or the base to write it anew."
            ) from error

    def write(
        self,
        version: int | None,
        stack: tuple[int | None, ...],
        live: Live,
        actor: str,
        reason: str,
        event: str,
    ) -> None:
        """Replaces `live` by `version`, with the way back and the audit entry."""
        entry = {
            "version": version,
            "previous": live.version,
            "time": now(),
            "actor": actor,
            "reason": reason,
        }
        # The audit first: better an entry for a change that failed than a change without one.
        self._state.audit(event, **entry)
        history = [*live.history, entry][-HISTORY:]
        write_atomic(self._path, dumps({**entry, "stack": stack, "history": history, "revision": live.revision + 1}))

    def take(self, content: bytes) -> None:
        """Replaces it by another installation's."""
        self._state.audit("adapter.followed", version=Live.parse(content).version)
        write_atomic(self._path, content)


def dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
