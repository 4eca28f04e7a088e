"""One lock out of several, each resolved for one Python. Usage: merge_locks.py FOLDER/3.11 FOLDER/3.12 ... > LOCK

A pin that all of them have is written as it is; one that only some have gets a marker that names those Pythons.
"""

from __future__ import annotations

import sys
from pathlib import Path


def entries(lock: str) -> dict[str, str]:
    """Pin ("name==version") -> its continuation lines, which are the hashes."""
    found: dict[str, str] = {}
    pin = ""
    for line in lock.splitlines():
        if line.startswith(" "):
            found[pin] += line + "\n"
        else:
            pin = line.removesuffix("\\").strip()
            found[pin] = ""
    return found


def merged(locks: dict[str, dict[str, str]]) -> str:
    """The text of one lock, sorted by name; `locks` has the entries of each Python ("3.12")."""
    lines = []
    for pin in sorted({pin for lock in locks.values() for pin in lock}, key=lambda pin: pin.split("==")):
        having = sorted((python for python, lock in locks.items() if pin in lock), key=lambda text: int(text.split(".")[1]))
        marker = "" if len(having) == len(locks) else " ; " + " or ".join(f"python_version == '{p}'" for p in having)
        lines.append(f"{pin}{marker} \\\n{locks[having[0]][pin]}")
    return "".join(lines)


if __name__ == "__main__":
    paths = [Path(f"{argument}.lock") for argument in sys.argv[1:]]
    print(merged({path.stem: entries(path.read_text()) for path in paths}), end="")
