"""The registry: immutable adapter versions, and the one file that says which of them serves."""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guard.errors import SirlError
from online.registry.active_version import HISTORY, ActiveVersion, ActiveVersionFile, dumps, now
from online.registry.errors import RegistryError
from online.registry.object_store import ObjectStore, ObjectStoreError
from online.registry.pins import Pins
from online.registry.release_record import Release
from online.registry.signature import Keys
from online.registry.version_folder import (
    COLLECTED,
    FORMAT,
    LEDGER,
    MANIFEST,
    PLAIN,
    REQUIRED,
    SIGNATURE,
    TOMB,
    WEIGHTS,
    VersionFolder,
    described,
)
from online.registry.version_store import VersionStore
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from online.state.errors import explained
from online.state.files import Stamp, write_atomic

State = Literal["candidate", "rejected", "live", "retired", "collected", "forgotten", "damaged"]
Attachment = Literal["evaluation", "calibration"]

log = logging.getLogger("sirl")

_DEFAULTS = RegistrySettings()


@dataclass(frozen=True, slots=True)
class Adapter:
    """One version.

    Attributes:
        name: "v<version>".
        state: candidate until it was rejected by its evaluation, or live, or retired (it was live before); collected
            where its weights were, forgotten where it was destroyed, damaged where its manifest cannot be read.
        manifest: empty where damaged.
        decision: what its evaluation decided, None before it.
        pinned: whether it is to stay.
    """

    version: int
    name: str
    state: State
    manifest: Mapping[str, Any]
    path: Path
    decision: str | None
    pinned: bool = False


class Registry(VersionStore):
    """The adapters of one state directory for one base.

    Args:
        base: the base's fingerprint, see `online.model.fingerprint`.

    Its methods raise RegistryError for what is asked wrongly or found damaged, FormatError where a newer sirl-guard wrote
    live.json or pins.json (what is in them is neither followed nor replaced), StateError where the directory
    cannot be written, and Busy where another process held its lock for half a minute. To make one raises KeyFileError
    or ObjectStoreError where the settings name keys or a store that cannot be.
    """

    def __init__(self, state: StateDir, base: str, settings: RegistrySettings = _DEFAULTS) -> None:
        super().__init__(state)
        self._base = base
        self._settings = settings
        self.keys = Keys.load(settings)
        self.store = None if settings.url is None else ObjectStore(settings.url, settings.timeout_s)
        self.pointer = ActiveVersionFile(state)
        self.pinned = Pins(state)

    @property
    def base(self) -> str:
        return self._base

    def folder(self, version: int) -> VersionFolder:
        return VersionFolder(self.path(version), version)

    def calibration_path(self, adapter: str) -> Path:
        """Where the calibration of "base" or "v<N>" lies (it need not exist)."""
        return self._state.calibration_path(adapter)

    def publish(
        self,
        staged: Path,
        *,
        parent: int | None,
        settings: Mapping[str, Any],
        data_fingerprint: str,
        metrics: Mapping[str, Any],
        origin: Literal["update", "import"] = "update",
    ) -> int:
        """Makes a staged directory the next version, in one rename; its number is never used again."""
        for name in REQUIRED:
            if not (staged / name).is_file():
                raise RegistryError(f"{staged} has no {name}; save the adapter there before it is published.")
        with explained(staged):
            for file in staged.iterdir():
                if not file.is_file() or file.is_symlink() or file.name not in PLAIN:
                    raise RegistryError(f"{file} cannot be part of a version; stage {', '.join(PLAIN)} only.")
            files = {file.name: described(file) for file in sorted(staged.iterdir())}
        elsewhere = self._elsewhere()
        with self.locked():
            version = self.next_number([*elsewhere, *self._spoken_of()])
            manifest = {
                "format": FORMAT,
                "version": version,
                "base": self._base,
                "parent": parent,
                "origin": origin,
                "created": now(),
                "settings": dict(settings),
                "data_fingerprint": data_fingerprint,
                "ledger": files[LEDGER]["sha256"] if LEDGER in files else None,
                "metrics": dict(metrics),
                "files": files,
            }
            VersionFolder(staged, version).write(MANIFEST, dumps(manifest), self._base, self.keys)
            self._state.audit("adapter.published", version=version, origin=origin, files=files)
            self.install(staged, version)
        return version

    def _elsewhere(self) -> list[int]:
        """The numbers that the store has used; those that the last look at it told where it is away."""
        try:
            return [] if self.store is None else self.store.numbers()
        except ObjectStoreError as error:
            log.warning("%s The next version gets a number that may be in use there.", error)
            return []

    def _spoken_of(self) -> list[int]:
        """The numbers that live.json names, whether or not their folders are still there."""
        try:
            live = self.pointer.read()
        except SirlError:
            return []  # its own readers report it
        return [version for version in (live.version, *live.stack) if version is not None]

    def import_adapter(self, source: Path, *, base_dir: Path, max_rank: int) -> int:
        """Checks a PEFT adapter from outside against the base in `base_dir` and publishes it as a candidate.

        Raises:
            AdapterError: it cannot be served; see `online.registry.adapter_check`.
        """
        # Here, for it imports torch, which listing and activating do without.
        from online.registry import adapter_check

        adapter_check.check_listing(source)
        adapter_check.check_recorded_base(source, self._base)
        config = adapter_check.checked_config(source, max_rank)
        with self.stage() as staged:
            with explained(staged):
                adapter_check.copy_weights(source, staged)
            adapter_check.check_weights(staged, config["r"], adapter_check.base_shapes(base_dir))
            write_atomic(staged / "adapter_config.json", dumps(config))
            fingerprint = f"sha256:{described(staged / WEIGHTS)['sha256']}"
            return self.publish(staged, parent=None, settings={}, data_fingerprint=fingerprint, metrics={}, origin="import")

    def manifest(self, version: int) -> dict[str, Any]:
        """What was recorded when it was published."""
        if not self.path(version).is_dir():
            raise RegistryError(f"there is no adapter v{version}; `sirl adapters list` shows those there are.")
        return self.folder(version).manifest()

    def verify(self, version: int) -> None:
        """Checks that it was made for this base, the digest of every file its manifest lists (it may have no others) and,
        where there are keys, the signature of what is signed."""
        self.manifest(version)
        folder = self.folder(version)
        if folder.forgotten:
            raise RegistryError(f"v{version} was destroyed, for it had learned from what was to be forgotten; use another.")
        if folder.collected:
            raise RegistryError(f"v{version}'s weights were collected, for nobody needed them any more; use another.")
        folder.check(self._base, self.keys)

    def vouch(self, adapter: str) -> None:
        """Checks the signature of the calibration of "v<N>", where it has one and there are keys; the base's is this
        machine's own."""
        if adapter != "base" and self.calibration_path(adapter).exists():
            self.folder(int(adapter[1:])).vouch("calibration.json", self.keys)

    def sign(self, version: int) -> list[str]:
        """Signs what of a version is not signed yet, its digests checked; returns the names of what was. What bears a
        signature that is not right is left and refused."""
        if self.keys.signing is None:
            raise RegistryError("there is no key to sign with; name one by registry.signing_key.")
        self.manifest(version)
        folder = self.folder(version)
        with self.locked(), explained(folder.path):
            folder.check_files(self._base)
            self._state.audit("adapter.signed", version=version)
            signed = folder.sign(self.keys)
            folder.check(self._base, self.keys)
        return signed

    def versions(self) -> list[Adapter]:
        """All versions, oldest first; a damaged one is listed as such and fails none."""
        try:
            live = self.pointer.read()
        except SirlError:
            live = ActiveVersion(None)
        try:
            pins = self.pinned.read()
        except SirlError:
            pins = ()
        return [self._adapter(version, live, version in pins) for version in self.numbers()]

    def _adapter(self, version: int, live: ActiveVersion, pinned: bool) -> Adapter:
        folder, name = self.folder(version), f"v{version}"
        try:
            manifest = folder.manifest()
        except RegistryError:
            return Adapter(version, name, "damaged", {}, folder.path, None, pinned)
        decision = self._decision(version)
        served = {entry.get("version") for entry in live.history}
        state: State = "candidate"
        if folder.forgotten:
            state = "forgotten"
        elif version == live.version:
            state = "live"
        elif folder.collected:
            state = "collected"
        elif decision == "rejected":
            state = "rejected"
        elif version in served:
            state = "retired"
        return Adapter(version, name, state, manifest, folder.path, decision, pinned)

    def evaluation(self, version: int) -> dict[str, Any]:
        """What its gate found; empty where it has not been through it, or that cannot be read or is not vouched for."""
        try:
            self.folder(version).vouch("evaluation.json", self.keys)
            return dict(json.loads((self.path(version) / "evaluation.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError, SirlError):
            return {}

    def _decision(self, version: int) -> str | None:
        if not (self.path(version) / "evaluation.json").exists():
            return None
        return str(self.evaluation(version).get("decision", "rejected"))  # what cannot be read vouches for nothing

    def attach(self, version: int, name: Attachment, payload: Mapping[str, Any]) -> None:
        """Adds evaluation.json ({"decision": "rejected" | ..., ...}), or calibration.json, which a new one replaces. What a
        gate decided stands; where it was undecided it may be asked again.

        To attach the same again is allowed, so that a killed update can be resumed.
        """
        base, folder = self.manifest(version)["base"], self.folder(version)
        path, text = folder.path / f"{name}.json", dumps(payload)
        with self.locked():
            if name == "evaluation" and path.exists():
                with explained(path):
                    if path.read_text("utf-8") == text:
                        return
                if self.evaluation(version).get("decision") != "undecided":
                    raise RegistryError(f"v{version} has its {name} already, and keeps it; publish a new version.")
            folder.write(path.name, text, base, self.keys)

    def destroy(self, version: int, *, actor: str, reason: str) -> None:
        """Deletes a version's files for good; what stays is its manifest, without figures of its learning, and why.

        To destroy it again is allowed, so that a killed command can be repeated. Raises RegistryError where it serves.
        """
        manifest, folder = self.manifest(version), self.folder(version)
        with self.locked(), explained(folder.path):
            live = self.pointer.read()
            if version == live.version:
                raise RegistryError(f"v{version} serves: activate another version or the base before it is destroyed.")
            if live.release is not None and live.release.version == version:
                self.pointer.write(live.version, live.stack, live, actor, reason, "adapter.withdrawn")
            self._state.audit("adapter.destroyed", version=version, actor=actor, reason=reason)
            tomb = dumps({"time": now(), "actor": actor, "reason": reason})
            folder.write(TOMB, tomb, manifest["base"], self.keys)
            self.clear(folder)
            folder.write(MANIFEST, dumps({**manifest, "metrics": {}}), manifest["base"], self.keys)

    def clear(self, folder: VersionFolder) -> None:
        """Deletes what a destroyed or collected version may no longer have; the caller holds the lock."""
        kept = {name + ending for name in (MANIFEST, TOMB) for ending in ("", SIGNATURE)}
        for file in folder.path.iterdir():
            if file.name == WEIGHTS or (folder.forgotten and file.name not in kept):
                file.unlink()
        if folder.forgotten and folder.version in (pins := self.pinned.read()):
            self.pinned.write(set(pins) - {folder.version})

    def collect(self, keep: Collection[int] = (), *, actor: str) -> list[int]:
        """Deletes the weights of versions that nobody needs, and returns which: all but what is live, pinned, a few steps on
        the way back (`registry.keep_back`), among the newest (`registry.keep`), or in `keep`. What explains them stays.
        """
        with self.locked():
            held = [a for a in self.versions() if a.state != "damaged" and (a.path / WEIGHTS).exists()]
            newest = {adapter.version for adapter in held[max(len(held) - self._settings.keep, 0) :]}
            spare = newest | self.needed() | set(keep)
            gone = [adapter for adapter in held if adapter.version not in spare]
            for adapter in gone:
                folder = self.folder(adapter.version)
                self._state.audit("adapter.collected", version=adapter.version, actor=actor)
                with explained(adapter.path):
                    folder.write(COLLECTED, dumps({"time": now(), "actor": actor}), adapter.manifest["base"], self.keys)
                    self.clear(folder)
        return [adapter.version for adapter in gone]

    def needed(self) -> set[int]:
        """What is live, on its way, pinned, among the last few of the way back, or what defence is held against."""
        live = self.pointer.read()
        back = dict.fromkeys(version for version in reversed(live.stack) if version is not None)
        best = () if live.version is None else (self.evaluation(live.version).get("best", live.version),)
        return {*live.referred, *self.pinned.read(), *list(back)[: self._settings.keep_back], *best}

    def pins(self) -> tuple[int, ...]:
        """The versions that are to stay whatever serves, in order."""
        return self.pinned.read()

    def pin(self, version: int, *, actor: str) -> None:
        """Keeps a version that can be served from collection."""
        with self.locked():
            self.verify(version)
            self._state.audit("adapter.pinned", version=version, actor=actor)
            self.pinned.write({*self.pinned.read(), version})

    def unpin(self, version: int, *, actor: str) -> None:
        """Lets a pinned version go; one that is not pinned is left as it is."""
        with self.locked():
            self._state.audit("adapter.unpinned", version=version, actor=actor)
            self.pinned.write(set(self.pinned.read()) - {version})

    def watch_stamp(self) -> tuple[Stamp, Stamp]:
        """Changes whenever what is live, on its way or pinned does; cheap enough to ask every second."""
        return self.pointer.stamp(), self.pinned.stamp()

    def live(self) -> int | None:
        """The version that serves, None for the base.

        Raises:
            RegistryError: live.json is damaged or names a version that is gone; serve the base then.
            FormatError: a newer sirl-guard wrote it.
        """
        version = self.pointer.read().version
        if version is not None and not self.path(version).is_dir():
            raise RegistryError(f"live.json names v{version}, which is gone; activate another version or the base.")
        return version

    def activate(
        self, version: int | None, *, actor: str, reason: str, force: bool = False, instead: Release | None = None
    ) -> None:
        """Makes a version (None: the base) the one that serves, and ends any release. `force` takes one that its gate did
        not promote; `instead` as for `release`."""
        with self.locked():
            self.check_servable(version, force)
            try:
                live = self.pointer.read()
            except RegistryError:
                live = ActiveVersion(None)  # this very call mends it
            if instead is not None and live.release != instead:
                raise RegistryError(f"v{instead.version} is no longer on its way as it was; look again.")
            stack = live.stack if version == live.version else (*live.stack, live.version)[-HISTORY:]
            self.pointer.write(version, stack, live, actor, reason, "adapter.activated")

    def release(
        self, release: Release | None, *, actor: str, reason: str, force: bool = False, instead: Release | None = None
    ) -> None:
        """Puts a version on its way to serve, or a step further; None: takes back the one that is. What serves stays.

        With `instead` only where that is still what is on its way: somebody else may have decided meanwhile.
        """
        with self.locked():
            live = self.pointer.read()
            if instead is not None and live.release != instead:
                raise RegistryError(f"v{instead.version} is no longer on its way as it was; look again.")
            if release is not None:
                self.check_servable(release.version, force)
                if release.version == live.version:
                    raise RegistryError(f"v{release.version} serves already; there is nothing to release.")
            event = "adapter.withdrawn" if release is None else f"adapter.{release.stage}"
            self.pointer.write(live.version, live.stack, live, actor, reason, event, release)

    def releasing(self) -> Release | None:
        """What is on its way to serve. Raises RegistryError where live.json is damaged."""
        return self.pointer.read().release

    def rollback(self, *, actor: str, reason: str) -> int | None:
        """Goes back to what served before (None: the base), passing over what is not servable now, what its gate did not
        promote (it was forced) and what was taken back itself; where nothing is left, to the base."""
        with self.locked():
            live = self.pointer.read()
            stack = list(live.stack)
            while stack:
                version = stack.pop()
                if version == live.version:
                    continue
                try:
                    self.check_servable(version, force=False)
                    if version in live.taken_back:
                        raise RegistryError(f"v{version} was taken back before; activate it by name if you know better.")
                except RegistryError as error:
                    self._state.audit("adapter.passed_over", version=version, error=str(error))
                    log.warning("passed over on the way back: %s", error)
                    continue
                break
            else:
                if live.version is None:
                    raise RegistryError("nothing servable was live before; activate a version or the base by name.")
                version = None
            self.pointer.write(version, tuple(stack), live, actor, reason, "adapter.rolled_back")
            return version

    def check_servable(self, version: int | None, force: bool) -> None:
        """Raises RegistryError where a version is not sound or, unless forced, was not promoted by its gate."""
        if version is None:
            return
        self.verify(version)
        decision = self._decision(version)
        if decision != "promoted" and not force:
            said = "has not been through its gate" if decision is None else f"was {decision} by its gate"
            raise RegistryError(f"v{version} {said}; force it only if you know better.")
