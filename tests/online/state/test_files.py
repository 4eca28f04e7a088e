"""Files are written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from online.state.errors import StateError
from online.state.files import append_durably, write_atomic

FULL_DISK = """
import resource, sys
from pathlib import Path
from online.state.directory import StateDir
from online.state.errors import StateError
from online.state.files import append_durably, write_atomic
state = StateDir(Path(sys.argv[1]))
write_atomic(state.path / "file", "old")
append_durably(state.path / "lines", b"one\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
try:
    write_atomic(state.path / "file", "x" * 65)
except StateError as error:
    print(error)
try:
    append_durably(state.path / "lines", b"y" * 99)
except OSError as error:
    print(error.errno)
"""


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "the disk or quota is full; free some space" in run.stdout
    assert len(run.stdout.splitlines()) == 2
    assert (tmp_path / "file").read_text() == "old"
    assert (tmp_path / "lines").read_text() == "one\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "lines"]


def test_write_atomic_replaces(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"a" * 10)
    write_atomic(tmp_path / "file", "b")
    assert (tmp_path / "file").read_bytes() == b"b"
    append_durably(tmp_path / "lines", b"x\n")
    with pytest.raises(StateError):
        write_atomic(tmp_path / "none" / "file", "b")
