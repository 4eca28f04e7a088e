"""The version store: numbered folders, prepared in private and published by one rename."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from guard.files import is_temporary, sync_directory
from online.state.directory import StateDir
from online.state.errors import explained
from online.state.files import sync_tree, write_atomic

_LOCK = "registry"
_LOCK_WAIT_S = 30.0
_STAGING = ".staging-"


class VersionStore:
    """The version folders of one state directory, and the count of their numbers.

    Its methods raise StateError where the directory cannot be written, and Busy where another process held its lock for
    half a minute.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._root = state.registry

    def path(self, version: int) -> Path:
        return self._root / f"v{version}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the registry meanwhile."""
        with self._state.lock(_LOCK, _LOCK_WAIT_S):
            yield

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A private directory to prepare a version in; gone afterwards unless it was published."""
        # The lock keeps sweep() from seeing it before its own lock is held.
        with self.locked(), explained(self._root):
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
        with self.locked(), explained(self._root):
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
            for path in self._root.rglob(".*.tmp"):  # all writers of the registry hold its lock
                if is_temporary(path):
                    path.unlink(missing_ok=True)
        return swept

    def install(self, staged: Path, version: int) -> None:
        """Puts a staged folder into its place; the caller holds the lock and has checked it."""
        sync_tree(staged)
        with explained(self.path(version)):
            os.rename(staged, self.path(version))
            sync_directory(self._root)

    def numbers(self) -> list[int]:
        """Of all versions that have a folder."""
        with explained(self._root):
            names = [re.fullmatch(r"v([1-9][0-9]*)", entry.name) for entry in self._root.iterdir()]
        return sorted(int(match[1]) for match in names if match)

    def next_number(self, elsewhere: Collection[int] = ()) -> int:
        """Greater than all that were used, here or elsewhere. Counted up on disk before it is used, so that not even a
        deleted version's returns; the caller holds the lock."""
        version = max([self._counted(), *self.numbers(), *elsewhere]) + 1
        write_atomic(self._root / "counter", str(version))
        return version

    def count(self, version: int) -> None:
        """Notes that numbers up to this one were used elsewhere."""
        if version > self._counted():
            with self.locked():
                write_atomic(self._root / "counter", str(max(version, self._counted())))

    def _counted(self) -> int:
        try:
            return int((self._root / "counter").read_text("ascii"))
        except (OSError, ValueError):
            return 0  # the directories and the history still tell which were used
