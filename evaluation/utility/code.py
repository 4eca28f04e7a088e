"""Unit tests of code that a model wrote, in a subprocess with little to break.

What holds: an own empty directory, `python -I -S` (no site packages, no user or environment settings), an empty
environment, limits on processor time, memory, file size and processes, no standard input, and an end by the clock for the
whole process group. With Landlock or bubblewrap it reads nothing but the interpreter's files and writes nothing outside its
directory; with bubblewrap or `unshare` it has no network, and no process of it lives on; on x86-64 and ARM64 Linux it
reaches no other program by a Unix socket. All that there is, is used; where
neither Landlock nor bubblewrap is, nothing runs unless the caller says so.

What does not: a fault of the kernel, filling the disk with many small files within its time, and a program that sets out to
fake its own pass, for tests and code share one interpreter. The limit on processes does not bind root, and that on memory
is for each process. For a model that may attack its judge, run the evaluation in a container or a virtual machine of its
own.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from evaluation.utility import launcher
from evaluation.utility.error import UtilityError

Reason = Literal["passed", "failed", "timeout"]
_FENCE = re.compile(r"```[ \t]*(?:python|py)?[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_LAUNCHER = Path(launcher.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Run:
    """How a program ended, and by what it was kept apart: of "bwrap", "unshare" and "landlock" what there is."""

    reason: Reason
    apart: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it ran to the end of its tests."""
        return self.reason == "passed"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Limits of one run: seconds by the clock (and of processor time), MB of memory and of any file, processes.

    bare: run even where nothing keeps the program from its user's files.
    """

    seconds: float = 10.0
    memory_mb: int = 512
    file_mb: int = 8
    processes: int = 32
    bare: bool = False

    def run(self, text: str) -> Run:
        """Runs a program to its end; it passes when its last line is reached, which an early exit does not do."""
        if not (self.bare or files_are_safe()):
            raise UtilityError(
                "nothing here keeps a program from its user's files: install bubblewrap, use a kernel with Landlock, "
                "or allow it in so many words (bare) inside a machine that has nothing to lose"
            )
        token = secrets.token_hex(16)
        cpu = max(1, round(self.seconds) + 1)
        limits = [cpu, self.memory_mb << 20, self.file_mb << 20, self.processes, 0]
        with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder:
            place = Path(folder).resolve()
            (place / "program.py").write_text(f"{text}\n\nprint({token!r})\n", encoding="utf-8", errors="replace")
            names, before = apart(place)
            command = [*before, _python(), "-I", "-S", "-c", _LAUNCHER, *map(str, limits), *_readable()]
            with (place / "out").open("wb") as out:
                process = subprocess.Popen(
                    command,
                    cwd=place,
                    env={},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                try:
                    ended = process.wait(self.seconds)
                except subprocess.TimeoutExpired:
                    return Run("timeout", names)
                finally:
                    _end(process)
            said = (place / "out").read_bytes()[-200:].decode("utf-8", "replace").split()
        return Run("passed" if ended == 0 and said[-1:] == [token] else "failed", names)


def program(prompt: str, response: str, test: str, entry_point: str) -> str:
    """A program for one problem of HumanEval's form (arXiv 2107.03374): the code, its tests, and check(entry_point).

    The code is the response's fenced block that defines the function, or else the response; one that does not define it is
    taken for the rest of the prompt's own function.
    """
    blocks = _FENCE.findall(response)
    defines = re.compile(rf"^[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", re.MULTILINE)
    code = next((block for block in blocks if defines.search(block)), blocks[0] if blocks else response)
    if defines.search(code):
        header = prompt[: found.start()] if (found := defines.search(prompt)) else ""
        code = f"{header}\n{code}"
    else:
        code = f"{prompt}{code}"
    return f"{code}\n\n{test}\n\ncheck({entry_point})\n"


def apart(place: Path) -> tuple[tuple[str, ...], list[str]]:
    """By what a program in this folder can be kept apart here, and the words that go before its command."""
    fence = ("landlock",) if launcher.landlock() else ()
    if _works("bwrap"):
        return ("bwrap", *fence), [*_bubble(), "--bind", str(place), str(place), "--chdir", str(place)]
    if _works("unshare"):
        return ("unshare", *fence), _unshared()
    return fence, []


def files_are_safe() -> bool:
    """Whether a program can be kept from files that are not its own."""
    return bool(launcher.landlock()) or _works("bwrap")


@cache
def _works(tool: str) -> bool:
    """Tried once, for kernels and containers differ in what they allow."""
    if shutil.which(tool) is None:
        return False
    command = [*(_bubble() if tool == "bwrap" else _unshared()), _python(), "-I", "-S", "-c", "print()"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False, env={}).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _bubble() -> list[str]:
    there = [word for path in _readable() for word in ("--ro-bind", path, path)]
    tool = shutil.which("bwrap") or "bwrap"
    return [tool, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", *there, "--proc", "/proc", "--dev", "/dev"]


def _readable() -> list[str]:
    """Where the interpreter and the libraries it needs are."""
    places = ["/usr", "/lib", "/lib64", os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)]
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


def _unshared() -> list[str]:
    """A user of no rights, no network, and processes that end with their first."""
    return [shutil.which("unshare") or "unshare", "--user", "--net", "--ipc", "--pid", "--fork", "--kill-child"]


def _python() -> str:
    """The interpreter itself: a virtual environment's link leads to packages that are none of the program's."""
    return os.path.realpath(sys.executable)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
