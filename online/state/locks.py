"""Locks on files, which the kernel lets go of when their holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from online.state.errors import StateError


class Busy(StateError):
    """Another process (or thread) holds the lock: `holder`, its process id and what it said of itself."""

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """An open, created, append-only file under its own lock; waits for it (holders are brief). A holder may put another file
    in its place: who waited then takes that one."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
