"""The registry: immutable adapter versions, and the one file that says which of them serves."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from online.live import HISTORY, Live, LivePointer, RegistryError, dumps, now
from online.state import StateDir, explained, sync_directory, sync_tree, write_atomic

State = Literal["candidate", "rejected", "live", "retired", "forgotten", "damaged"]
Attachment = Literal["evaluation", "calibration"]

_LOCK = "registry"
_LOCK_WAIT_S = 30.0
_MANIFEST = "manifest.json"
_WEIGHTS = "adapter_model.safetensors"
_REQUIRED = (_WEIGHTS, "adapter_config.json")
_ATTACHED = ("evaluation.json", "calibration.json")
_STAGING = ".staging-"
_TOMB = "forgotten.json"


@dataclass(frozen=True, slots=True)
class Adapter:
    """One version.

    Attributes:
        name: "v<version>".
        state: candidate until it was rejected by its evaluation, or live, or retired (it was live before);
            forgotten where it was destroyed, damaged where its manifest cannot be read.
        manifest: empty where damaged.
        decision: what its evaluation decided, None before it.
    """

    version: int
    name: str
    state: State
    manifest: Mapping[str, Any]
    path: Path
    decision: str | None


class Registry:
    """The adapters of one state directory for one base.

    Args:
        base: the base's fingerprint, see `online.fingerprint`.

    Its methods raise RegistryError for what is asked wrongly or found damaged, StateError where the directory
    cannot be written, and Busy where another process held its lock for half a minute.
    """

    def __init__(self, state: StateDir, base: str) -> None:
        self._state = state
        self._base = base
        self._root = state.registry
        self._pointer = LivePointer(state)

    @property
    def base(self) -> str:
        return self._base

    def path(self, version: int) -> Path:
        return self._root / f"v{version}"

    def calibration_path(self, adapter: str) -> Path:
        """Where the calibration of "base" or "v<N>" lies (it need not exist)."""
        return self._state.calibration_path(adapter)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._state.lock(_LOCK, _LOCK_WAIT_S):
            yield

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A private directory to prepare a version in; gone afterwards unless it was published."""
        # The lock keeps sweep() from seeing it before its own lock is held.
        with self._locked(), explained(self._root):
            directory = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self._root))
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(handle)

    def sweep(self) -> int:
        """Removes what dead processes left in preparation; returns how many there were."""
        swept = 0
        with self._locked(), explained(self._root):
            for directory in self._root.glob(f"{_STAGING}*"):
                handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    # The kernel let go of a dead owner's lock; a living one still holds it.
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                else:
                    shutil.rmtree(directory)
                    swept += 1
                finally:
                    os.close(handle)
        return swept

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
        for name in _REQUIRED:
            if not (staged / name).is_file():
                raise RegistryError(f"{staged} has no {name}; save the adapter there before it is published.")
        with explained(staged):
            for file in staged.iterdir():
                if not file.is_file() or file.is_symlink() or file.name in (_MANIFEST, *_ATTACHED):
                    raise RegistryError(f"{file} cannot be part of a version; stage plain adapter files only.")
            files = {file.name: _described(file) for file in sorted(staged.iterdir())}
        with self._locked():
            version = self._next_version()
            manifest = {
                "version": version,
                "base": self._base,
                "parent": parent,
                "origin": origin,
                "created": now(),
                "settings": dict(settings),
                "data_fingerprint": data_fingerprint,
                "metrics": dict(metrics),
                "files": files,
            }
            write_atomic(staged / _MANIFEST, dumps(manifest))
            sync_tree(staged)
            self._state.audit("adapter.published", version=version, origin=origin, files=files)
            with explained(self.path(version)):
                os.rename(staged, self.path(version))
                sync_directory(self._root)
        return version

    def _next_version(self) -> int:
        """Counts up on disk before the number is used, so that not even a deleted version's returns."""
        counter = self._root / "counter"
        try:
            counted = int(counter.read_text("ascii"))
        except (OSError, ValueError):
            counted = 0  # the directories and the history below still tell which were used
        used = [counted, *self._numbers()]
        try:
            live = self._pointer.read()
            used += [version for version in (live.version, *live.stack) if version is not None]
        except RegistryError:
            pass  # live.json is of no help when damaged; its own readers report it
        version = max(used) + 1
        write_atomic(counter, str(version))
        return version

    def _numbers(self) -> list[int]:
        with explained(self._root):
            names = [re.fullmatch(r"v([1-9][0-9]*)", entry.name) for entry in self._root.iterdir()]
        return sorted(int(match[1]) for match in names if match)

    def import_adapter(self, source: Path, *, base_dir: Path, max_rank: int) -> int:
        """Checks a PEFT adapter from outside against the base in `base_dir` and publishes it as a candidate.

        Raises:
            AdapterError: it cannot be served; see `online.adapter_check`.
        """
        # Here, for it imports torch, which listing and activating do without.
        from online import adapter_check

        adapter_check.check_listing(source)
        adapter_check.check_recorded_base(source, self._base)
        config = adapter_check.checked_config(source, max_rank)
        with self.stage() as staged:
            with explained(staged):
                adapter_check.copy_weights(source, staged)
            adapter_check.check_weights(staged, config["r"], adapter_check.base_shapes(base_dir))
            write_atomic(staged / "adapter_config.json", dumps(config))
            fingerprint = f"sha256:{_described(staged / _WEIGHTS)['sha256']}"
            return self.publish(staged, parent=None, settings={}, data_fingerprint=fingerprint, metrics={}, origin="import")

    def manifest(self, version: int) -> dict[str, Any]:
        """What was recorded when it was published."""
        path = self.path(version) / _MANIFEST
        if not self.path(version).is_dir():
            raise RegistryError(f"there is no adapter v{version}; `sirl adapters list` shows those there are.")
        try:
            manifest = json.loads(path.read_text("utf-8"))
            if manifest["version"] != version or not isinstance(manifest["base"], str):
                raise ValueError("it is another version's")
            if not all(isinstance(entry["sha256"], str) for entry in manifest["files"].values()):
                raise ValueError("its list of files is malformed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{path} is damaged ({error}); restore it or use another version.") from error
        return dict(manifest)

    def verify(self, version: int) -> None:
        """Checks that it was made for this base, and the digest of every file its manifest lists; it may have no others."""
        manifest, directory = self.manifest(version), self.path(version)
        if (directory / _TOMB).exists():
            raise RegistryError(f"v{version} was destroyed, for it had learned from what was to be forgotten; use another.")
        if manifest["base"] != self._base:
            raise RegistryError(
                f"v{version} was trained on another base than the one served: activate the base or a version of its own, or "
                "give each model its own --state-dir."
            )
        present = {entry.name for entry in directory.iterdir()} - {_MANIFEST, *_ATTACHED}
        strange = present.symmetric_difference(manifest["files"])
        if strange:
            what = min(strange)
            raise RegistryError(
                f"v{version} {'has a file too many' if what in present else 'lacks a file'}, {what}; "
                "use another version or restore this one."
            )
        for name, entry in manifest["files"].items():
            with explained(directory / name):
                digest = _described(directory / name)["sha256"]
            if digest != entry["sha256"]:
                raise RegistryError(f"{directory / name} was changed since it was published; use another version.")

    def versions(self) -> list[Adapter]:
        """All versions, oldest first; a damaged one is listed as such and fails none."""
        try:
            live = self._pointer.read()
        except RegistryError:
            live = Live(None)
        return [self._adapter(version, live) for version in self._numbers()]

    def _adapter(self, version: int, live: Live) -> Adapter:
        path, name = self.path(version), f"v{version}"
        try:
            manifest = self.manifest(version)
        except RegistryError:
            return Adapter(version, name, "damaged", {}, path, None)
        decision = self._decision(version)
        served = {entry.get("version") for entry in live.history}
        state: State = "candidate"
        if (path / _TOMB).exists():
            state = "forgotten"
        elif version == live.version:
            state = "live"
        elif decision == "rejected":
            state = "rejected"
        elif version in served:
            state = "retired"
        return Adapter(version, name, state, manifest, path, decision)

    def _decision(self, version: int) -> str | None:
        try:
            evaluation = json.loads((self.path(version) / "evaluation.json").read_text("utf-8"))
            return str(evaluation["decision"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "rejected"  # an evaluation that cannot be read vouches for nothing

    def attach(self, version: int, name: Attachment, payload: Mapping[str, Any]) -> None:
        """Adds evaluation.json ({"decision": "rejected" | ..., ...}), once, or calibration.json, which a new one replaces.

        To attach the same again is allowed, so that a killed update can be resumed.
        """
        self.manifest(version)
        path, text = self.path(version) / f"{name}.json", dumps(payload)
        with self._locked():
            if name == "evaluation" and path.exists():
                with explained(path):
                    if path.read_text("utf-8") == text:
                        return
                raise RegistryError(f"v{version} has its {name} already, and keeps it; publish a new version.")
            write_atomic(path, text)

    def destroy(self, version: int, *, actor: str, reason: str) -> None:
        """Deletes a version's files for good; what stays is its manifest, without figures of its learning, and why.

        To destroy it again is allowed, so that a killed command can be repeated. Raises RegistryError where it serves.
        """
        manifest = self.manifest(version)
        with self._locked(), explained(self.path(version)):
            if self._pointer.read().version == version:
                raise RegistryError(f"v{version} serves: activate another version or the base before it is destroyed.")
            folder = self.path(version)
            self._state.audit("adapter.destroyed", version=version, actor=actor, reason=reason)
            write_atomic(folder / _TOMB, dumps({"time": now(), "actor": actor, "reason": reason}))
            for file in folder.iterdir():
                if file.name not in (_MANIFEST, _TOMB):
                    file.unlink()
            write_atomic(folder / _MANIFEST, dumps({**manifest, "metrics": {}}))

    def watch_stamp(self) -> tuple[int, int, int]:
        """Changes whenever what is live does; cheap enough to ask every second."""
        return self._pointer.stamp()

    def live(self) -> int | None:
        """The version that serves, None for the base.

        Raises:
            RegistryError: live.json is damaged or names a version that is gone; serve the base then.
        """
        version = self._pointer.read().version
        if version is not None and not self.path(version).is_dir():
            raise RegistryError(f"live.json names v{version}, which is gone; activate another version or the base.")
        return version

    def activate(self, version: int | None, *, actor: str, reason: str, force: bool = False) -> None:
        """Makes a version (None: the base) the one that serves. `force` takes one that its gate did not promote."""
        with self._locked():
            self._check_servable(version, force)
            try:
                live = self._pointer.read()
            except RegistryError:
                live = Live(None)  # this very call mends it
            stack = live.stack if version == live.version else (*live.stack, live.version)[-HISTORY:]
            self._pointer.write(version, stack, live, actor, reason, "adapter.activated")

    def rollback(self, *, actor: str, reason: str) -> int | None:
        """Goes back to what served before (None: the base), passing over versions not servable now."""
        with self._locked():
            live = self._pointer.read()
            stack = list(live.stack)
            while stack:
                version = stack.pop()
                try:
                    self._check_servable(version, force=True)
                except RegistryError as error:
                    self._state.audit("adapter.passed_over", version=version, error=str(error))
                    continue
                self._pointer.write(version, tuple(stack), live, actor, reason, "adapter.rolled_back")
                return version
        raise RegistryError("nothing servable was live before; activate a version or the base by name.")

    def _check_servable(self, version: int | None, force: bool) -> None:
        if version is None:
            return
        self.verify(version)
        decision = self._decision(version)
        if decision != "promoted" and not force:
            said = "has not been through its gate" if decision is None else f"was {decision} by its gate"
            raise RegistryError(f"v{version} {said}; force it only if you know better.")


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"sha256": digest, "bytes": os.fstat(stream.fileno()).st_size}
