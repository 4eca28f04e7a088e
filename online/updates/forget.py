"""Forgetting: delete what a client sent (or single events), destroy every adapter that learned from it, and teach the one
that served anew from the base, from the same buffer without it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from guard.errors import SirlError
from online.events.buffer import Buffer
from online.events.journal import Journal
from online.gate.evaluator import Suites
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.settings.groups import UpdateSettings
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.state.errors import explained
from online.state.files import write_atomic
from online.training.ledger import Ledger, LedgerError
from online.updates.record import UpdateOutcome
from online.updates.update import Launch, run_update

PLAN = "forgetting.json"
ID = 32
"""Characters of an event's id."""
ACTOR = "forget"
REASON = "it learned from data that was to be forgotten"


@dataclass(frozen=True, slots=True)
class Successor:
    """What the version that was live is to be taught anew from and with: events before `until`, its own settings.

    Kept in the state directory until that is done, so that a killed command can be repeated.
    """

    version: int
    until: float
    settings: dict[str, Any]

    @classmethod
    def planned(cls, state: StateDir) -> Successor | None:
        try:
            return cls(**json.loads((state.path / PLAN).read_text("utf-8")))
        except FileNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many events were deleted, which versions had learned from them and are destroyed, and who is to be taught anew."""

    events: int
    versions: tuple[int, ...]
    successor: Successor | None


def erase(state: StateDir, registry: Registry, buffer: Buffer, clients: Collection[str], ids: Collection[str]) -> Forgotten:
    """Delete the events of these clients (hashes) and those of these ids, and destroy what learned from them.

    First the buffer is closed to them, so that what waits in a running server's memory, or is being answered, never comes
    in. Killed half-way it can be repeated: adapters go before the events that tell which they are. Raises Busy while an
    update runs, which might be learning from them.
    """
    with state.lock("update"):
        buffer.bury(clients, [identity for identity in ids if len(identity) <= ID], time.time())
        with explained(state.journal_path):
            journal = Journal(state.journal_path).remove(lambda event: event.client in clients or event.id in ids)
        buffered = {identity for client in clients for identity in buffer.of_client(client)} | set(ids)
        tainted, live = _tainted(registry, buffered, clients), _live(registry)
        if live is not None and live in tainted:
            ledger, manifest = Ledger.load(registry.path(live)), registry.manifest(live)
            plan = Successor(live, ledger.until, manifest["settings"])
            write_atomic(state.path / PLAN, json.dumps(asdict(plan)))
            registry.activate(_clean(registry, tainted), actor=ACTOR, reason=f"v{live} is to be forgotten")
        for version in tainted:
            registry.destroy(version, actor=ACTOR, reason=REASON)
        half_learned = {path.parent for name in ("checkpoint.pt", "sound.pt") for path in state.updates.glob(f"*/{name}")}
        for folder in (state.rollouts, *sorted(half_learned)):
            shutil.rmtree(folder, ignore_errors=True)
        deleted = buffer.delete(buffered) + len(set(journal) - buffered)
        buffer.unsee(clients)
        buffer.scrub()
        state.audit("events.forgotten", events=deleted, versions=tainted)
    return Forgotten(deleted, tuple(tainted), Successor.planned(state))


def rebuild(
    successor: Successor,
    settings: Settings,
    state: StateDir,
    registry: Registry,
    buffer: Buffer,
    base_dir: Path,
    suites: Suites | None,
    launch: Launch | None = None,
) -> UpdateOutcome:
    """Teach the version that was live anew: the update that it would have been had the data never come, through the gate."""
    known = successor.settings
    drawn = {"rollout_tokens": known["max_tokens"], **known} if "max_tokens" in known else known  # one setting, formerly
    wanted = settings.model_copy(update={"update": UpdateSettings(**drawn)})
    until = successor.until
    outcome = run_update(wanted, state, registry, buffer, base_dir, suites, launch=launch, until=until)
    (state.path / PLAN).unlink(missing_ok=True)
    return outcome


def _tainted(registry: Registry, ids: Collection[str], clients: Collection[str]) -> list[int]:
    """Versions whose ledger names one of these events, or one of these clients', which the buffer may have dropped since."""
    found = []
    for adapter in registry.versions():
        with suppress(LedgerError):
            entries = Ledger.load(adapter.path).entries
            if any(entry.id in ids or entry.client in clients for entry in entries):
                found.append(adapter.version)
    return found


def _live(registry: Registry) -> int | None:
    try:
        return registry.live()
    except RegistryError:
        return None


def _clean(registry: Registry, tainted: Collection[int]) -> int | None:
    """The newest promoted version that learned nothing of it; None: the base."""
    for adapter in reversed(registry.versions()):
        if adapter.version not in tainted and adapter.decision == "promoted":
            with suppress(SirlError):
                registry.verify(adapter.version)
                return adapter.version
    return None
