"""What goes wrong with files of the state directory, in one sentence each."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guard.errors import SirlError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM}
_LOCKLESS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


class StateError(SirlError):
    """The state directory cannot be used as it is."""


def explain(error: OSError, path: Path) -> StateError:
    """One sentence for a failed file operation on `path`."""
    if error.errno in _FULL:
        return StateError(f"{path} cannot be written because the disk or quota is full; free some space.")
    if error.errno in _DENIED:
        return StateError(f"{path} is not accessible to this user; mend its owner and permissions.")
    if error.errno == errno.EROFS:
        return StateError(f"{path} is on a read-only file system; mount it for writing or choose another --state-dir.")
    if error.errno in _LOCKLESS:
        return StateError(f"{path} is on a file system without locks (flock); choose another --state-dir.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StateError(f"{path} is not a directory or lies under a file; choose another --state-dir.")
    reason = error.strerror or type(error).__name__
    return StateError(f"{path} cannot be used ({reason}); check that the state directory is there and sound.")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError on `path` into a StateError."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error
