"""Files written whole or not at all, and appended to durably."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from online.state.errors import explained
from online.state.locks import exclusive


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_atomic(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Writes the whole file or leaves the old one; durable when it returns.

    Raises:
        StateError: the directory is missing, not writable or full.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    with explained(path):
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            try:
                write_all(handle, payload)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


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


def is_temporary(path: Path) -> bool:
    """Whether it is what `write_atomic` leaves of a file when it is killed."""
    return path.name.startswith(".") and path.suffix == ".tmp"


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
        size = os.fstat(handle).st_size
        # A process killed in the middle of a line left it without its end.
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        try:
            write_all(handle, b"\n" + data if torn else data)
            os.fsync(handle)
        except OSError:
            os.ftruncate(handle, size)
            raise
