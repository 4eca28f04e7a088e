"""What runs first in a sandbox: it limits itself, fences itself off from files, network and the sockets of other programs,
and becomes the program.

It is given to a bare interpreter as text, and so needs nothing but the standard library. The fence is Landlock, which any
user of Linux 5.13 or newer may put around itself and no one inside can take down:
https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Sequence

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every processor
_READ = 1 << 2 | 1 << 3  # files, folders
_EVERY_FILE_RIGHT = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version of Landlock knows; later ones know 16."""
_NO_NEW_PRIVILEGES, _FILTER_CALLS = 38, 22
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""What the kernel calls a processor, and the number of socket() on it."""


def landlock() -> int:
    """The version of Landlock that the kernel has; 0 without it."""
    if not sys.platform.startswith("linux"):
        return 0
    version: int = ctypes.CDLL(None).syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    return max(0, version)


def fence(readable: Sequence[str], writable: str) -> None:
    """From here on this process, and all it starts, reads these places alone, writes this folder alone, executes no file,
    and (from version 4) neither opens nor serves a TCP connection. Does nothing where there is no Landlock."""
    version = landlock()
    if not version:
        return
    call = ctypes.CDLL(None, use_errno=True).syscall
    every = (1 << _EVERY_FILE_RIGHT.get(version, 16)) - 1
    handled = struct.pack("QQQ", every, 0b11, 0b11)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = _checked(call(_CREATE, handled, ctypes.c_size_t(len(handled)), 0))
    for place, rights in (*((place, _READ) for place in readable), (writable, every & ~1)):
        if os.path.isdir(place):
            handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
            _checked(call(_ADD, rules, 1, struct.pack("=Qi", rights, handle), 0))
            os.close(handle)
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(call(_RESTRICT, rules, 0))
    os.close(rules)


def deaf() -> None:
    """From here on no socket of this machine's own programs can be opened (a container engine's, say), which are files that
    no fence about files stops: socket(AF_UNIX) fails, and so does io_uring, which could do the same. A pair of sockets of
    one's own can be had. A filter of system calls: https://docs.kernel.org/userspace-api/seccomp_filter.html
    """
    if os.uname().machine not in _SOCKET:
        return
    machine, number = _SOCKET[os.uname().machine]
    steps = (  # (code, steps to skip if so, if not, value); 0x20 reads a word, 0x15 is "equal", 0x35 "at least", 0x06 ends
        (0x20, 0, 0, 4), (0x15, 0, 7, machine),
        (0x20, 0, 0, 0), (0x35, 5, 0, 0x40000000), (0x15, 4, 0, 425), (0x15, 0, 2, number),
        (0x20, 0, 0, 16), (0x15, 1, 0, 1),
        (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | 13),
    )  # fmt: skip
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(steps), ctypes.addressof(buffer))
    control = ctypes.CDLL(None, use_errno=True).prctl
    _checked(control(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(control(_FILTER_CALLS, 2, program, 0, 0))


def main(arguments: Sequence[str]) -> None:
    """arguments: five limits (seconds of processor time, bytes of memory, of a file, processes, bytes of a core), and the
    places to read; the program is program.py in the working directory."""
    for name, most in zip(("CPU", "AS", "FSIZE", "NPROC", "CORE"), map(int, arguments[:5]), strict=True):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    with open("program.py", encoding="utf-8") as file:
        source = file.read()
    fence(arguments[5:], os.getcwd())
    if sys.platform.startswith("linux"):
        deaf()
    sys.argv = ["program.py"]
    exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})


def _checked(result: int) -> int:
    if result < 0:
        raise OSError("the fence does not hold")
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
