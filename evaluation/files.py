"""The files of an evaluation: written whole, and a record that grows by whole lines."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from guard.errors import SirlError


class FileError(SirlError):
    """A file of an evaluation that cannot be written."""


def write_whole(path: Path, text: str) -> None:
    """Writes the whole file, for its owner alone, or leaves the old one. Raises FileError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        reason = error.strerror or type(error).__name__
        raise FileError(f"{path} cannot be written ({reason}): free some space, or name another place.") from error


def append_line(path: Path, line: str) -> None:
    """Appends one line, durable when it returns; a line that a killed process left torn is closed off before it. Raises
    OSError, and leaves the file as it was."""
    with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several threads append
        size = file.seek(0, os.SEEK_END)
        torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        try:
            file.write(b"\n" * torn + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise
