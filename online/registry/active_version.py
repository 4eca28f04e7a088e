"""The active version: live.json, the one file that says which adapter serves."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self, get_args

from online.registry.errors import RegistryError
from online.registry.release_record import Release, Stage
from online.state.directory import StateDir
from online.state.files import Stamp, stamp, write_atomic
from online.state.format import require

FORMAT = 1
# Entries kept of the history and of the way back.
HISTORY = 1_000


@dataclass(frozen=True, slots=True)
class ActiveVersion:
    """What serves.

    Attributes:
        version: None for the base.
        stack: what to go back to, the latest last; a rollback takes from its end.
        history: one entry a change: version, previous, time, actor, reason, event, and what was on its way then.
        revision: how many changes came before, wherever they were made; orders them though clocks differ.
        release: what is on its way to serve, if anything is.
    """

    version: int | None
    stack: tuple[int | None, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    revision: int = 0
    release: Release | None = None

    @classmethod
    def parse(cls, text: str | bytes, what: object = "live.json") -> Self:
        """Of the file's content; raises ValueError, KeyError, TypeError or AttributeError where it is none, and FormatError
        (with `what` as the file's name) where it is of a newer format."""
        document = json.loads(text)
        require(document, FORMAT, what)
        version, stack, history = document["version"], tuple(document["stack"]), tuple(document["history"])
        release = Release(**document["release"]) if document.get("release") else None
        live = cls(version, stack, history, document.get("revision", 0), release)
        for number in (version, *stack, release and release.version):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{number!r} is no version")
        if release is not None and release.stage not in get_args(Stage):
            raise ValueError(f"{release.stage!r} is no stage")
        if not all(isinstance(entry, dict) for entry in history):
            raise ValueError("its history is malformed")
        if type(live.revision) is not int:
            raise ValueError("its revision is malformed")
        return live

    @property
    def referred(self) -> frozenset[int]:
        """The versions that serve by it, or are on their way to; the way back is another matter."""
        on_its_way = None if self.release is None else self.release.version
        return frozenset(version for version in (self.version, on_its_way) if version is not None)

    @property
    def taken_back(self) -> frozenset[int]:
        """The versions that were withdrawn or rolled back, by whoever, and have not been activated since."""
        found: set[int] = set()
        on_its_way: int | None = None
        for entry in self.history:
            event, version = entry.get("event"), entry.get("version")
            gone = {"adapter.withdrawn": on_its_way, "adapter.rolled_back": entry.get("previous")}.get(str(event))
            if gone is not None:
                found.add(gone)
            if event == "adapter.activated":
                found.discard(version)
            on_its_way = (entry.get("release") or {}).get("version")
        return frozenset(found)

    @property
    def order(self) -> tuple[int, str]:
        """The later of two writers' has the greater one."""
        return self.revision, str(self.history[-1].get("time", "")) if self.history else ""


class ActiveVersionFile:
    """Reads and replaces live.json; writers hold the registry's lock."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._path = state.registry / "live.json"

    def stamp(self) -> Stamp:
        """Changes whenever the file does."""
        return stamp(self._path)

    def read(self) -> ActiveVersion:
        """What serves; the base where nothing was ever activated.

        Raises:
            RegistryError: the file is damaged.
            FormatError: a newer sirl-guard wrote it.
        """
        try:
            return ActiveVersion.parse(self._path.read_text("utf-8"), self._path)
        except FileNotFoundError:
            return ActiveVersion(None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"{self._path} is damaged ({error}); activate a version or the base to write it anew."
            ) from error

    def write(
        self,
        version: int | None,
        stack: tuple[int | None, ...],
        live: ActiveVersion,
        actor: str,
        reason: str,
        event: str,
        release: Release | None = None,
    ) -> None:
        """Replaces `live` by `version`, with the way back, what is on its way to serve, and the audit entry."""
        entry = {
            "version": version,
            "previous": live.version,
            "time": now(),
            "actor": actor,
            "reason": reason,
            "release": release and asdict(release),
        }
        # The audit first: better an entry for a change that failed than a change without one.
        self._state.audit(event, **entry)
        history = [*live.history, {**entry, "event": event}][-HISTORY:]
        document = {"format": FORMAT, **entry, "stack": stack, "history": history, "revision": live.revision + 1}
        write_atomic(self._path, dumps(document))

    def take(self, content: bytes) -> None:
        """Replaces it by another installation's."""
        self._state.audit("adapter.followed", version=ActiveVersion.parse(content).version)
        write_atomic(self._path, content)


def dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
