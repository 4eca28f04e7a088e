"""Files that are written whole or not at all, and files that grow by whole lines."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes | str, mode: int = 0o600) -> None:
    """Writes the whole file or leaves the old one; durable when it returns. A process that is killed leaves a draft beside
    it, which `is_temporary` tells.

    Raises:
        OSError: the directory is missing, not writable or full.
    """
    payload = data.encode() if isinstance(data, str) else data
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        try:
            write_all(handle, payload)
            os.fsync(handle)
        finally:
            os.close(handle)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether it is what `write_whole` leaves of a file when it is killed."""
    return path.name.startswith(".") and path.suffix == ".tmp"


def append_whole(handle: int, data: bytes) -> None:
    """Appends whole lines to an open file that the caller has locked, durable when it returns; what a killed process left
    torn is closed off before them.

    Raises:
        OSError: they cannot be written; the file is left as it was.
    """
    size = os.fstat(handle).st_size
    torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
    try:
        write_all(handle, b"\n" + data if torn else data)
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def write_all(handle: int, data: bytes) -> None:
    """Every byte, for one call of `os.write` may take a part. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync_directory(path: Path) -> None:
    """Makes durable what a directory lists. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
