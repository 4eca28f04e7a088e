"""Versions: adopt one from outside, have it serve, take it back, keep it, let it go."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from guard.errors import SirlError
from online.operations.installation import Installation
from online.registry.release_record import Stage
from online.registry.release_stages import advance
from online.registry.sync import RegistrySync
from online.state.directory import StateDir
from online.training.ledger import Ledger
from online.updates.progress import folders, read
from online.updates.record import PlanError, UpdateRecord

log = logging.getLogger("sirl")

REASON = "asked for"
"""What the audit notes of an act that an operator asked for."""


def version_of(name: str) -> int:
    """The number in "v3" or "3"; raises SirlError for anything else."""
    number = name.removeprefix("v")
    if not (number.isascii() and number.isdecimal() and int(number)):
        raise SirlError(f"{name or 'nothing'} names no adapter: give a version such as v3, or base.")
    return int(number)


def named(version: int | None) -> str:
    """A version as people and clients know it: "v3", and "base" for None."""
    return "base" if version is None else f"v{version}"


def adopt(installation: Installation, folder: Path) -> int:
    """Import a PEFT adapter from outside as a candidate; returns its version. Raises AdapterError."""
    rank = installation.settings.update.lora_rank
    return installation.registry.import_adapter(folder, base_dir=installation.model, max_rank=rank)


def activate(installation: Installation, version: int | None, *, actor: str, force: bool = False) -> None:
    """Have a version, or the base (None), serve at once. Raises RegistryError for one that its gate did not promote, unless
    forced, and for one that is not whole."""
    installation.registry.activate(version, actor=actor, reason=REASON, force=force)


def release(installation: Installation, version: int, *, actor: str) -> Stage | None:
    """Put a version that passed its gate on its way to serve, or from its stage to the next; returns that, None where it
    serves now. Raises RegistryError."""
    return advance(installation.registry, installation.settings.release, version, actor=actor, reason=REASON)


def withdraw(installation: Installation, *, actor: str) -> None:
    """Take back the version on its way to serve, where one is. Raises RegistryError where live.json is damaged."""
    installation.registry.release(None, actor=actor, reason=REASON)


def roll_back(installation: Installation, *, actor: str) -> int | None:
    """Have the last version serve that served before, was promoted and not taken back; returns it, None for the base."""
    return installation.registry.rollback(actor=actor, reason=REASON)


def pin(installation: Installation, version: int, *, actor: str) -> None:
    """Keep a version, whatever serves. Raises RegistryError."""
    installation.registry.pin(version, actor=actor)


def unpin(installation: Installation, version: int, *, actor: str) -> None:
    """Let a pinned version go. Raises RegistryError."""
    installation.registry.unpin(version, actor=actor)


def sign(installation: Installation, version: int) -> list[str]:
    """Sign what of a version is not signed yet; returns the files' names. Raises RegistryError, KeyFileError."""
    return installation.registry.sign(version)


def sync(installation: Installation) -> None:
    """Bring registry and store to the same. Raises SirlError where there is no store, or it is away."""
    registry = installation.registry
    if registry.store is None:
        raise SirlError("there is no store to sync with: name one by registry.url.")
    RegistrySync(installation.state, registry, registry.store).sync()


def ledger(state: StateDir, version: int) -> Ledger:
    """The events that taught a version, whatever its base. Raises LedgerError and FormatError."""
    return Ledger.load(state.registry / f"v{version}")


def collect(installation: Installation, *, actor: str) -> list[int]:
    """Delete the weights that nobody needs, and return whose; what a killed update made or was to judge is needed. Raises
    Busy while one runs, and FormatError where a newer sirl-guard began one."""
    state, registry = installation.state, installation.registry
    with state.lock("update"):
        begun = [folder for folder in folders(state) if read(folder, "outcome.json") is None]
        names = {folder.name for folder in begun}
        for folder in begun:
            with suppress(PlanError):  # nothing goes on from a damaged plan
                names.add(UpdateRecord.load(folder).key or folder.name)
        kept = [a.version for a in registry.versions() if {a.name, a.manifest.get("metrics", {}).get("update")} & names]
        return registry.collect(kept, actor=actor)


def tidy(installation: Installation) -> None:
    """After an update: collect, and share what it made; what hinders either is said, and changes nothing of the update."""
    try:
        collect(installation, actor="learner")
    except SirlError as error:
        log.warning("%s", error)
    installation.synchronise()
