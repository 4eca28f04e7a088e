"""The files of an evaluation: written whole, and a record that grows by whole lines."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from guard import files
from guard.errors import SirlError


class FileError(SirlError):
    """A file of an evaluation that cannot be written."""


def write_whole(path: Path, text: str) -> None:
    """Writes the whole file, for its owner alone, or leaves the old one. Raises FileError."""
    try:
        files.write_whole(path, text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(f"{path} cannot be written ({reason}): free some space, or name another place.") from error


def append_line(path: Path, line: str) -> None:
    """Appends one line, durable when it returns; a line that a killed process left torn is closed off before it. Raises
    OSError, and leaves the file as it was."""
    with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several threads append
        files.append_whole(file.fileno(), line.encode() + b"\n")
