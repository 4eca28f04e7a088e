"""The fingerprint of a base model: its identity, cheap enough to take at every start."""

import hashlib
import os
from pathlib import Path

from guard.errors import SirlError

_EDGE = 1 << 20


class FingerprintError(SirlError):
    """The directory holds no model that can be told from another."""


def fingerprint(model_dir: Path) -> str:
    """ "sha256:<hex>" over config.json, tokenizer.json and the edges of every *.safetensors file.

    Of weights it reads name, size in bytes and the first and last MiB: the header with all names and shapes,
    and the end of the data. Weights that were edited in the middle only are not told apart.

    Raises:
        FingerprintError: no config.json, no *.safetensors, or a file that cannot be read.
    """
    directory = Path(model_dir)
    digest = hashlib.sha256()
    try:
        if not (directory / "config.json").is_file():
            raise FingerprintError(f"{directory} has no config.json; name the directory of a saved model.")
        weights = sorted(directory.glob("*.safetensors"))
        if not weights:
            raise FingerprintError(f"{directory} has no *.safetensors; save the model with save_pretrained.")
        for name in ("config.json", "tokenizer.json"):
            file = directory / name
            _feed(digest, name, file.read_bytes() if file.is_file() else b"")
        for file in weights:
            _feed(digest, file.name, _edges(file))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FingerprintError(
            f"the model in {directory} cannot be read ({reason}); check its files and permissions."
        ) from error
    return f"sha256:{digest.hexdigest()}"


def _feed(digest: "hashlib._Hash", name: str, content: bytes) -> None:
    # Lengths go in too: otherwise bytes could move from one file to the next unseen.
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)


def _edges(file: Path) -> bytes:
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        first = stream.read(_EDGE)
        stream.seek(max(size - _EDGE, len(first)))
        return f"{size}\0".encode() + first + stream.read()
