"""The state directory: private files, written whole or not at all, shared by several processes."""

import errno
import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from online.state.errors import StateError, explain, explained
from online.state.files import append_durably, write_atomic
from online.state.finding import Finding
from online.state.locks import Busy

_LOW_SPACE = 256 << 20
_AUDIT_BYTES = 16 << 20
_AUDIT_OLD = 4
_AUDIT_TEXT = 2_000


class StateDir:
    """The directory all processes of one installation share. Creates it with mode 0700.

    Raises:
        StateError: it is no directory, or it cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser().absolute()
        with explained(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            read_only = os.statvfs(self.path).f_flag & os.ST_RDONLY
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise explain(OSError(errno.EROFS if read_only else errno.EACCES, "denied"), self.path)

    @property
    def buffer_url(self) -> str:
        return f"sqlite:///{self.path / 'buffer.sqlite'}"

    @property
    def journal_path(self) -> Path:
        return self.path / "buffer-spill.jsonl"

    @property
    def audit_path(self) -> Path:
        return self.path / "audit.jsonl"

    @property
    def registry(self) -> Path:
        return self._subdirectory("registry")

    @property
    def updates(self) -> Path:
        return self._subdirectory("updates")

    @property
    def rollouts(self) -> Path:
        """Adapters in training, which the serving engine may load for rollouts."""
        return self._subdirectory("rollouts")

    @property
    def endpoint_path(self) -> Path:
        """Where the running endpoint says how it is reached."""
        return self.path / "endpoint.json"

    def calibration_path(self, adapter: str) -> Path:
        """Where the calibration of "base" or "v<N>" lies (it need not exist)."""
        if not re.fullmatch(r"base|v[1-9][0-9]*", adapter):
            raise StateError(f"{adapter!r} names no adapter; use 'base' or a version such as 'v3'.")
        return (self._subdirectory("registry/base") if adapter == "base" else self.registry / adapter) / ("calibration.json")

    def find_calibration(self, adapter: str, model: Path) -> Path:
        """The calibration to go by: the state directory's, else for the base the one that came with the model."""
        own, shipped = self.calibration_path(adapter), model / "calibration.json"
        return shipped if adapter == "base" and not own.exists() and shipped.exists() else own

    def _subdirectory(self, name: str) -> Path:
        path = self.path / name
        with explained(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def internal_key(self) -> str:
        """The key (64 hex digits) by which our own processes know each other's requests."""
        return self._secret("internal.key")

    def client_salt(self) -> str:
        """The salt (64 hex digits) of the client hashes in the buffer."""
        return self._secret("client.salt")

    def _secret(self, name: str) -> str:
        path = self.path / name
        with self.lock("secrets", wait_s=10.0):
            with explained(path):
                if path.exists():
                    return _checked_secret(path)
            fresh = secrets.token_hex(32)
            write_atomic(path, fresh)
            return fresh

    @contextmanager
    def lock(self, name: str, wait_s: float = 0.0, about: str = "") -> Iterator[None]:
        """Holds the named lock against all other holders, threads of this process included; `about` is told to them.

        The kernel lets go of it when the holder dies, however it dies.

        Raises:
            Busy: another holder kept it for longer than `wait_s` seconds.
            StateError: the file system has no locks, or the file cannot be made.
        """
        path = self.path / f"{name}.lock"
        with explained(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with explained(path):
                self._acquire(handle, name, time.monotonic() + wait_s)
            # The pid only serves the message: a full disk must not fail the lock.
            with suppress(OSError):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} {about}".strip().encode(), 0)
            yield
        finally:
            # Never unlinked: another process may wait on this very file.
            os.close(handle)

    def _acquire(self, handle: int, name: str, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 256, 0).decode(errors="replace") or "unknown"
                    message = f"{name} in {self.path} is in use by process {holder}; wait for it or stop it."
                    raise Busy(message, holder) from None
            time.sleep(0.01)

    @contextmanager
    def served(self, address: str) -> Iterator[None]:
        """Holds the directory for the one server that may work with it, at `address`, as long as that lives.

        Two would each swap by what the other's learner promotes and replay each other's journal.

        Raises:
            StateError: another server has it, which is named, or it is on a file system without locks.
        """
        with ExitStack() as held:
            try:
                held.enter_context(self.lock("server", about=f"at {address}"))
            except Busy as busy:
                raise StateError(
                    f"{self.path} has its server already, process {busy.holder}; stop that one, or give this one another "
                    "--state-dir."
                ) from None
            yield

    def audit(self, event: str, **fields: object) -> None:
        """Appends one line to audit.jsonl; durable when it returns. A text of more than 2,000 characters is cut there."""
        entry = {"time": datetime.now(UTC).isoformat(), "event": event, "pid": os.getpid(), **fields}
        cut = {k: v[:_AUDIT_TEXT] if isinstance(v, str) else v for k, v in entry.items()}
        with explained(self.audit_path):
            self._rotate_audit()
            append_durably(self.audit_path, json.dumps(cut).encode() + b"\n")

    def audit_files(self) -> list[Path]:
        """The audit log in order of time: what is left of its older parts, then audit.jsonl."""
        old = [self._old_audit(number) for number in range(_AUDIT_OLD, 0, -1)]
        return [path for path in (*old, self.audit_path) if path.exists()]

    def _old_audit(self, number: int) -> Path:
        return self.path / f"audit.jsonl.{number}"

    def _rotate_audit(self) -> None:
        """Puts an audit.jsonl of 16 MiB aside and lets the oldest of four such files go. Who has it open meanwhile ends its
        line in the file put aside."""
        # A record that cannot be put aside (append-only, say) is still written to: that it is kept matters more.
        with suppress(OSError, Busy):
            if self.audit_path.stat().st_size < _AUDIT_BYTES:
                return
            with self.lock("audit"):
                if self.audit_path.stat().st_size >= _AUDIT_BYTES:
                    for number in range(_AUDIT_OLD, 1, -1):
                        with suppress(FileNotFoundError):
                            os.replace(self._old_audit(number - 1), self._old_audit(number))
                    os.replace(self.audit_path, self._old_audit(1))

    def check(self) -> list[Finding]:
        """Looks the directory over for `sirl doctor`; raises nothing, changes nothing that stays."""
        return [self._check_writable(), *self._check_space(), *self._check_modes(), *self._check_secrets()]

    def _check_writable(self) -> Finding:
        probe = self.path / ".probe"
        try:
            write_atomic(probe, b"x")
            probe.unlink()
        except (StateError, OSError) as error:
            said = error if isinstance(error, StateError) else explain(error, self.path)
            return Finding("error", "state directory", str(said))
        return Finding("ok", "state directory", f"{self.path} is writable")

    def _check_space(self) -> Iterator[Finding]:
        with suppress(OSError):  # a directory that is gone was already found above
            usage = os.statvfs(self.path)
            free = usage.f_bavail * usage.f_frsize
            low = free < _LOW_SPACE
            mend = "; free some space or move --state-dir" if low else ""
            yield Finding("warning" if low else "ok", "disk", f"{free >> 20} MiB free at {self.path}{mend}")

    def _check_modes(self) -> Iterator[Finding]:
        for path in (self.path, self.path / "internal.key", self.path / "client.salt", self.audit_path):
            with suppress(OSError):
                mode = stat.S_IMODE(path.stat().st_mode)
                if mode & 0o077:
                    message = f"{path} is open to others (mode {mode:04o}); run: chmod go= '{path}'"
                    yield Finding("warning", "permissions", message)

    def _check_secrets(self) -> Iterator[Finding]:
        for path in (self.path / "internal.key", self.path / "client.salt"):
            if not path.exists():
                continue
            try:
                with explained(path):
                    _checked_secret(path)
            except StateError as error:
                yield Finding("error", path.name, str(error))
            else:
                yield Finding("ok", path.name, "is sound")


def _checked_secret(path: Path) -> str:
    text = path.read_bytes().decode("ascii", errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise StateError(f"{path} is corrupt; delete it and start again, and a fresh one will be made.")
    return text
