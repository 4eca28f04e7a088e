"""A version's folder: which files may lie in it, and whether they are as they were published and signed."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.files import is_temporary
from online.registry.errors import RegistryError
from online.registry.signature import Keys, Statement
from online.state.errors import explained
from online.state.files import write_atomic
from online.state.format import FormatError, require

MANIFEST = "manifest.json"
FORMAT = 1
"""Of a manifest and of the documents beside it, but for a calibration, which has its own."""
WEIGHTS = "adapter_model.safetensors"
REQUIRED = (WEIGHTS, "adapter_config.json")
LEDGER = "ledger.json"
PLAIN = (*REQUIRED, LEDGER)
"""What a manifest may list: safetensors and JSON, so nothing that a loader would unpickle."""
EVALUATION, CALIBRATION = "evaluation.json", "calibration.json"
COLLECTED = "collected.json"
"""Says that nobody needed the weights any more, and that they are gone."""
TOMB = "forgotten.json"
"""Says that the version was destroyed, and why."""
DOCUMENTS = (MANIFEST, EVALUATION, CALIBRATION, COLLECTED, TOMB)
"""What carries a signature of its own; the other files have their digests in the manifest."""
SIGNATURE = ".sig"
"""Ends the name of a document's signatures, which lie beside it, one a line."""


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """The folder of one version, in the registry or on its way there; its methods raise RegistryError for what is not as
    it should be, in a sentence."""

    path: Path
    version: int

    @property
    def forgotten(self) -> bool:
        return (self.path / TOMB).exists()

    @property
    def collected(self) -> bool:
        return (self.path / COLLECTED).exists()

    def manifest(self) -> dict[str, Any]:
        """What was recorded when it was published."""
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text("utf-8"))
            require(manifest, FORMAT, path)
            if manifest["version"] != self.version or not isinstance(manifest["base"], str):
                raise ValueError("it is another version's")
            if not isinstance(manifest["metrics"], dict):
                raise ValueError("its metrics are malformed")
            if not all(isinstance(entry["sha256"], str) for entry in manifest["files"].values()):
                raise ValueError("its list of files is malformed")
        except FormatError as error:  # as unfit to serve as a damaged one, and no more in the way of the others
            raise RegistryError(str(error)) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{path} is damaged ({error}); restore it or use another version.") from error
        return dict(manifest)

    def signatures(self, name: str) -> bytes:
        """Those of a document; empty where it has none."""
        try:
            return (self.path / f"{name}{SIGNATURE}").read_bytes()
        except FileNotFoundError:
            return b""

    def write(self, name: str, content: str, base: str, keys: Keys) -> None:
        """Writes a document, its signature first, so that no reader finds the one without the other."""
        if keys.mute:
            raise RegistryError(
                f"v{self.version}'s {name} cannot be signed here, and unsigned it would be refused: do this where "
                "registry.signing_key is."
            )
        if keys.signing is not None:
            self._sign(Statement(name, self.version, base, content.encode()), keys)
        else:
            with explained(self.path):
                (self.path / f"{name}{SIGNATURE}").unlink(missing_ok=True)  # of what was there before
        write_atomic(self.path / name, content)

    def _sign(self, statement: Statement, keys: Keys) -> None:
        # The one before stays below: it holds for what a reader finds until the document itself is replaced.
        lines = [keys.sign(statement), *self.signatures(statement.name).decode("ascii", errors="replace").split()[:1]]
        write_atomic(self.path / f"{statement.name}{SIGNATURE}", "\n".join(lines) + "\n")

    def take(self, name: str, content: bytes, signatures: bytes) -> None:
        """Writes a document that came with its signatures."""
        if signatures:
            write_atomic(self.path / f"{name}{SIGNATURE}", signatures)
        write_atomic(self.path / name, content)

    def sign(self, keys: Keys) -> list[str]:
        """Signs those of its documents that have no signature; returns their names. The signing key must be there."""
        base = self.manifest()["base"]
        fresh = [name for name in DOCUMENTS if (self.path / name).exists() and not self.signatures(name)]
        for name in fresh:
            self._sign(Statement(name, self.version, base, (self.path / name).read_bytes()), keys)
        return fresh

    def vouch(self, name: str, keys: Keys) -> None:
        """Raises unless a document bears the signature of a trusted key, where there is any."""
        with explained(self.path / name):
            self.vouch_for(name, (self.path / name).read_bytes(), self.signatures(name), keys)

    def vouch_for(self, name: str, content: bytes, signatures: bytes, keys: Keys) -> None:
        """The same for one that is not in the folder yet."""
        if not keys.trusted or keys.accept(Statement(name, self.version, self.manifest()["base"], content), signatures):
            return
        if not signatures:
            raise RegistryError(
                f"v{self.version}'s {name} is not signed; if it is as it should be, run "
                f"`sirl adapters sign v{self.version}` where registry.signing_key is."
            )
        raise RegistryError(
            f"v{self.version}'s {name} bears no signature of a trusted key for what it says; restore it, or trust the key."
        )

    def check(self, base: str, keys: Keys) -> None:
        """Everything in it: made for this base, complete, nothing beside, every digest and every signature right."""
        self.check_files(base)
        for name in DOCUMENTS:
            if (self.path / name).exists():
                self.vouch(name, keys)

    def check_files(self, base: str) -> None:
        """The same but for signatures."""
        manifest = self.manifest()
        files: dict[str, dict[str, Any]] = manifest["files"]
        if manifest["base"] != base:
            raise RegistryError(
                f"v{self.version} was trained on another base than the one served: activate the base or a version of its "
                "own, or give each model its own --state-dir."
            )
        if unplain := set(files) - set(PLAIN):
            raise RegistryError(
                f"v{self.version} lists {min(unplain)}, which is no part of an adapter; use another version."
            )
        there = {entry.name for entry in self.path.iterdir() if not is_temporary(entry)}
        present = there - {n for name in DOCUMENTS for n in (name, name + SIGNATURE)}
        if more := present - set(files):
            raise RegistryError(
                f"v{self.version} has a file too many, {min(more)}; use another version or restore this one."
            )
        gone = set(files) if self.forgotten else {WEIGHTS} if self.collected else set()
        if less := set(files) - gone - present:
            raise RegistryError(f"v{self.version} lacks a file, {min(less)}; use another version or restore this one.")
        for name in sorted(present):
            with explained(self.path / name):
                digest = described(self.path / name)["sha256"]
            if digest != files[name]["sha256"]:
                raise RegistryError(f"{self.path / name} was changed since it was published; use another version.")


def described(file: Path) -> dict[str, Any]:
    """SHA-256 (hex) and size in bytes of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"sha256": digest, "bytes": os.fstat(stream.fileno()).st_size}
