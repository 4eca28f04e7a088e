"""Files written whole or not at all, and appended to durably."""

import json
import os
from pathlib import Path
from typing import Any

from guard.files import append_whole, sync_directory, write_whole
from online.state.errors import explained
from online.state.locks import exclusive


def write_atomic(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Writes the whole file or leaves the old one; durable when it returns.

    Raises:
        StateError: the directory is missing, not writable or full.
    """
    with explained(path):
        write_whole(path, data, mode)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object's file; None where it is not (yet) there, or is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Changes whenever a file that is written whole does; all zero without one."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    # The inode too: two quick changes may share size and clock tick, but not the file.
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def sync_tree(directory: Path) -> None:
    """Makes the files of a flat directory durable and read-only, so that a rename publishes them whole."""
    with explained(directory):
        for file in directory.iterdir():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.fchmod(handle, 0o400)
            finally:
                os.close(handle)
        sync_directory(directory)


def append_durably(path: Path, data: bytes) -> None:
    """Appends whole lines; a failed append leaves the file as it was, a torn one before it is closed off.

    Raises:
        OSError: the file cannot be written.
    """
    with exclusive(path) as handle:
        append_whole(handle, data)
