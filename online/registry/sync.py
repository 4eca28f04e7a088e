"""Registry sync: registry and object store are brought to the same, so that one learner feeds servers on many machines.

Everything is served from the local directory. A version is immutable, so whoever made it uploads it, its manifest last: half
an upload is no version. Downloads go into a staging folder, are checked as anything here is (digests, signatures, base) and
appear by one rename. What comes later (an evaluation, a calibration, a tomb) follows file by file; of two calibrations made
meanwhile the one that was there first stands.

Who may write: one learner publishes, for two at the same moment would take the same number; the later one's is then refused,
in a sentence. live.json and pins are written by whoever activates or pins. The last activation wins: each change counts one
further than the one it saw, and of two that saw the same the later by the clock stands. It is not signed; where there are
keys, what the store says is live is followed only to versions whose signed evaluation promoted them. What somebody removed
from the store stays removed.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from guard.errors import SirlError
from online.registry import pins
from online.registry.active_version import ActiveVersion, dumps
from online.registry.errors import RegistryError
from online.registry.object_store import ObjectStore, versions_in
from online.registry.registry import Registry
from online.registry.version_folder import (
    CALIBRATION,
    COLLECTED,
    DOCUMENTS,
    EVALUATION,
    MANIFEST,
    PLAIN,
    SIGNATURE,
    TOMB,
    WEIGHTS,
    VersionFolder,
)
from online.state.directory import StateDir
from online.state.errors import explained
from online.state.files import write_atomic
from online.state.format import FormatError
from online.state.locks import Busy

log = logging.getLogger("sirl")

_LOCK_WAIT_S = 30.0
_LIVE, _PINS = "live.json", "pins.json"
_DAMAGED = (-1, "")


class RegistrySync:
    """One registry and its store.

    `sync` raises ObjectStoreError where the store cannot be used, and RegistryError or FormatError for the first thing
    there that is not taken, after all else is; what is here is whole at any moment, and the next call does what is left.
    """

    def __init__(self, state: StateDir, registry: Registry, store: ObjectStore) -> None:
        self._state, self._registry, self._store = state, registry, store
        self._root = state.registry
        self._known: dict[str, str] = {}
        """Digests of documents as they were on both sides when last seen; kept in shared.json."""
        self._stamps: dict[str, str] = {}
        """What the listing said of documents then, which saves reading them again."""
        self._foreign: dict[int, str] = {}
        """The same of versions that are of another base."""

    def sync(self) -> None:
        """Bring over what either side lacks. Raises Busy where another process does so for half a minute."""
        refused: list[RegistryError | FormatError] = []
        with self._state.lock("store", _LOCK_WAIT_S):
            there = self._store.listing()
            self._known = self._remembered()
            for step in self._steps(there):
                try:
                    step()
                except (RegistryError, FormatError) as error:
                    refused.append(error)
        if refused:
            raise refused[0]

    def close(self) -> None:
        """End a sync under way after its present operation, in another thread."""
        self._store.close()

    def attempt(self) -> str | None:
        """The same for who goes on whatever becomes of it: returns what hindered it, in a sentence."""
        try:
            self.sync()
        except Busy:
            return None  # somebody is at it
        except SirlError as error:
            return f"{error} What is here goes on as it is; this is tried again."
        return None

    def _steps(self, there: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """Versions before live.json, which names them; what deletes after it, which lets go of them."""
        numbers = versions_in(there)
        self._registry.count(max(numbers, default=0))
        versions = sorted(numbers | set(self._registry.numbers()))
        yield from (partial(self._version, version, there) for version in versions)
        yield partial(self._pins, there)
        yield partial(self._live, there)
        yield from (partial(self._removals, version, there) for version in versions)

    def _version(self, version: int, there: Mapping[str, str]) -> None:
        folder, manifest = self._registry.folder(version), f"v{version}/{MANIFEST}"
        if not folder.path.exists():
            if manifest in there and self._foreign.get(version) != there[manifest]:
                self._download(version, there)
            return
        if folder.manifest()["base"] != self._registry.base:
            return  # of a model served before: nobody's business here
        if manifest not in self._known:
            if manifest not in there or not self._recognise(folder, there):
                self._upload(folder)
        gone = folder.forgotten or f"v{version}/{TOMB}" in there
        for name in (MANIFEST,) if gone else (MANIFEST, EVALUATION, CALIBRATION):
            self._document(folder, name, there)

    def _download(self, version: int, there: Mapping[str, str]) -> None:
        at, fetched = f"v{version}/", {}
        names = {name.removeprefix(at) for name in there if name.startswith(at)}
        with self._registry.stage() as staged:
            folder = VersionFolder(staged, version)
            for name in (MANIFEST, TOMB) if TOMB in names else DOCUMENTS:
                if name in names:
                    content, signatures = self._read(at + name, there)
                    folder.take(name, content, signatures)
                    fetched[at + name] = _digest(content, signatures)
            try:
                manifest = folder.manifest()
                if manifest["base"] != self._registry.base:
                    self._foreign[version] = there[at + MANIFEST]
                    return
                for name in names & set(manifest["files"]) & set(PLAIN):
                    if not folder.forgotten and not (name == WEIGHTS and folder.collected):
                        self._store.get(at + name, staged / name)
                folder.check(self._registry.base, self._registry.keys)
            except RegistryError as error:
                raise RegistryError(f"What the store has is not taken: {error}") from error
            with self._registry.locked():
                self._state.audit("adapter.received", version=version, files=manifest["files"])
                self._registry.install(staged, version)
        self._note(fetched)

    def _recognise(self, folder: VersionFolder, there: Mapping[str, str]) -> bool:
        """Whether the store has this very version, though nobody remembers having shared it; not where its manifest is half
        written."""
        try:
            content, signatures = self._read(f"v{folder.version}/{MANIFEST}", there)
        except RegistryError:
            return False
        if _identity(json.loads(content)) != _identity(folder.manifest()):
            raise RegistryError(
                f"The store has another v{folder.version} already, published elsewhere: move {folder.path} out of the "
                "registry and import it from there, which gives it a number of its own."
            )
        self._note({f"v{folder.version}/{MANIFEST}": _digest(content, signatures)})
        return True

    def _upload(self, folder: VersionFolder) -> None:
        """All but the documents; the manifest among these makes it a version."""
        folder.check(self._registry.base, self._registry.keys)
        for name in PLAIN:
            if (folder.path / name).exists():
                self._store.put(folder.path / name, f"v{folder.version}/{name}")

    def _document(self, folder: VersionFolder, name: str, there: Mapping[str, str]) -> None:
        """Take the store's where it changed since last seen, else give it ours where that did."""
        key, keys = f"v{folder.version}/{name}", self._registry.keys
        stamp = there.get(key, "") + there.get(key + SIGNATURE, "")
        with explained(folder.path):
            found = (folder.path / name).exists()
            ours = ((folder.path / name).read_bytes(), folder.signatures(name)) if found else None
        if key in there and self._stamps.get(key) != stamp:
            try:
                theirs = self._read(key, there)
                folder.vouch_for(name, *theirs, keys)
            except RegistryError:
                if ours is None or _digest(*ours) == self._known.get(key):
                    raise
                # Half of what was being written when the store died: ours takes its place below.
            else:
                if _digest(*theirs) != self._known.get(key):
                    if theirs != ours:
                        self._receive(folder, name, *theirs)
                    self._note({key: _digest(*theirs)})
                    ours = theirs
                self._stamps[key] = stamp
        if ours is not None and _digest(*ours) != self._known.get(key):
            folder.vouch_for(name, *ours, keys)
            if ours[1]:
                self._store.write(key + SIGNATURE, ours[1])
            self._store.write(key, ours[0])
            self._note({key: _digest(*ours)})

    def _receive(self, folder: VersionFolder, name: str, content: bytes, signatures: bytes) -> None:
        """Put a document of the store's, read and vouched for, into the folder of a version that is here."""
        path, version = folder.path / name, folder.version
        with self._registry.locked(), explained(folder.path):
            if name == MANIFEST and _identity(json.loads(content)) != _identity(folder.manifest()):
                raise RegistryError(f"The store's v{version} is not the one it was; whoever wrote it there should not have.")
            if name == EVALUATION and path.exists() and path.read_bytes() != content:
                raise RegistryError(f"The store has another evaluation of v{version}; it keeps the one that is here.")
            if name == TOMB and version in self._registry.pointer.read().referred:
                raise RegistryError(
                    f"v{version} was destroyed elsewhere, and serves here: activate another one or the base."
                )
            self._state.audit("adapter.received", version=version, files=[name])
            folder.take(name, content, signatures)
            if name in (COLLECTED, TOMB):
                self._registry.clear(folder)

    def _removals(self, version: int, there: Mapping[str, str]) -> None:
        """Marks that say weights, or everything, went; and what they leave behind in the store."""
        folder, at = self._registry.folder(version), f"v{version}/"
        if not folder.path.exists() or not self._has(version):
            return
        self._document(folder, TOMB, there)
        if not folder.forgotten and (folder.collected or version not in self._registry.needed()):
            self._document(folder, COLLECTED, there)
        kept = {at + name + ending for name in (MANIFEST, TOMB) for ending in ("", SIGNATURE)}
        for name in there:
            if (folder.collected and name == at + WEIGHTS) or (
                folder.forgotten and name.startswith(at) and name not in kept
            ):
                self._store.delete(name)

    def _pins(self, there: Mapping[str, str]) -> None:
        """The store's where they changed; both where ours did as well."""
        path = self._root / _PINS
        if _PINS in there and self._stamps.get(_PINS) != there[_PINS]:
            content = self._store.read(_PINS)
            with self._registry.locked():
                ours = path.read_bytes() if path.exists() else None
                mine = ours is not None and _digest(ours) != self._known.get(_PINS)
                if content != ours and _digest(content) != self._known.get(_PINS):
                    try:
                        pinned = set(pins.parse(content, "The store's pins.json"))
                    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                        if not mine:
                            raise RegistryError(
                                f"The store's pins.json is damaged ({error}): pin or unpin something."
                            ) from error
                        pinned = set()
                    self._registry.pinned.write(pinned | set(self._registry.pins() if mine else ()))
            self._note({_PINS: _digest(content)})
            self._stamps[_PINS] = there[_PINS]
        self._give(path)

    def _live(self, there: Mapping[str, str]) -> None:
        """The store's live.json where it is the later one, else ours."""
        path = self._root / _LIVE
        if _LIVE in there and self._stamps.get(_LIVE) != there[_LIVE]:
            content = self._store.read(_LIVE)
            with self._registry.locked():
                ours = path.read_bytes() if path.exists() else None
                if content != ours:
                    theirs = _order(content, "The store's live.json")
                    if theirs == _DAMAGED and (not ours or _digest(ours) == self._known.get(_LIVE)):
                        raise RegistryError(
                            "The store's live.json is cut short or damaged, and not followed: activate what is to serve "
                            "anew."
                        )
                    if ours is None or theirs >= _order(ours, path):
                        self._follow(content)
            self._note({_LIVE: _digest(content)})
            self._stamps[_LIVE] = there[_LIVE]
        if self._has(self._registry.pointer.read().version):
            self._give(path)

    def _follow(self, content: bytes) -> None:
        """Make live what the store says is; the caller holds the registry's lock."""
        try:
            live = ActiveVersion.parse(content)
            for version in (live.version, live.release.version if live.release else None):
                if not self._has(version):
                    raise RegistryError(f"v{version} is not here.")
                self._registry.check_servable(version, force=not self._registry.keys.trusted)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RegistryError) as error:
            raise RegistryError(f"What the store says is live is not followed: {error}") from error
        self._registry.pointer.take(content)

    def _has(self, version: int | None) -> bool:
        """Whether a version (or the base, None) is the same here and in the store."""
        return version is None or f"v{version}/{MANIFEST}" in self._known

    def _give(self, path: Path) -> None:
        """Write a file of the registry to the store where that has not seen it."""
        if path.exists() and _digest(content := path.read_bytes()) != self._known.get(path.name):
            self._store.write(path.name, content)
            self._note({path.name: _digest(content)})

    def _read(self, key: str, there: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A document of the store's, a JSON object, and its signatures where the listing knows of any."""
        signatures = self._store.read(key + SIGNATURE) if key + SIGNATURE in there else b""
        content = self._store.read(key)
        try:
            whole = isinstance(json.loads(content), dict)
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise RegistryError(f"The store's {key} is cut short or damaged, and is not taken; write it there anew.")
        return content, signatures

    def _remembered(self) -> dict[str, str]:
        try:
            return dict(json.loads((self._root / "shared.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return {}  # nothing was shared, or it is not known what: each side is looked at anew

    def _note(self, seen: Mapping[str, str]) -> None:
        self._known |= seen
        write_atomic(self._root / "shared.json", dumps(self._known))


def _digest(content: bytes, signatures: bytes = b"") -> str:
    return hashlib.sha256(hashlib.sha256(content).digest() + signatures).hexdigest()


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a version's manifest never changes; when it is destroyed its metrics go."""
    return {**manifest, "metrics": None}


def _order(content: bytes, what: object) -> tuple[int, str]:
    """Of a live.json; the least where it is damaged, so that whoever has a newer one mends it. Raises FormatError where it
    is of a newer format: that is neither followed nor replaced."""
    try:
        return ActiveVersion.parse(content, what).order
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _DAMAGED


def synchronise(state: StateDir, registry: Registry) -> None:
    """Sync with the store, where there is one; what hinders it is said, and the next time does what is left."""
    if registry.store is not None and (trouble := RegistrySync(state, registry, registry.store).attempt()):
        log.warning("%s", trouble)
