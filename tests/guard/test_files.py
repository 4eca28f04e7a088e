"""Files are written whole or not at all, and lines are appended whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.files import append_whole, is_temporary, write_whole

SMALL = 64
"""Bytes that a file may have in the processes below, as on a full disk."""
FULL_DISK = """
import os, resource, sys
from pathlib import Path
from guard.files import append_whole, write_whole
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    write_whole(folder / "file", "x" * (limit + 1))
except OSError as error:
    print(error.errno)
handle = os.open(folder / "lines", os.O_RDWR | os.O_APPEND)
try:
    append_whole(handle, b"y" * limit)
except OSError as error:
    print(error.errno)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from guard.files import write_whole
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]) / "file", "new")
"""


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    os.umask(0o027)  # which the mode is less of; the next test has its own again
    for data, asked, mode in (("é" * 100, 0o600, 0o600), (b"a", 0o644, 0o640)):
        write_whole(tmp_path / "file", data, asked)
        assert (tmp_path / "file").read_bytes() == (data.encode() if isinstance(data, str) else data)
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_put_in_its_place_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "nowhere" / "file", tmp_path / "taken"):
        with pytest.raises(OSError):
            write_whole(path, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_leaves_files_as_they_were(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    write_whole(tmp_path / "lines", "one\n")
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(SMALL)], capture_output=True, text=True, check=True
    )
    assert len(run.stdout.splitlines()) == 2, run.stdout + run.stderr
    assert (tmp_path / "file").read_text() == "old" and (tmp_path / "lines").read_text() == "one\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lines"]


def test_a_killed_writer_leaves_the_old_file_and_a_draft_that_is_known(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / "file").read_text() == "old"
    (draft,) = set(tmp_path.iterdir()) - {tmp_path / "file"}
    assert is_temporary(draft) and not is_temporary(tmp_path / "file")


def test_a_torn_line_is_closed_off(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"torn": ')
    handle = os.open(tmp_path / "lines", os.O_RDWR | os.O_APPEND)
    try:
        append_whole(handle, b"one\n")
        append_whole(handle, b"two\nthree\n")
    finally:
        os.close(handle)
    assert (tmp_path / "lines").read_text() == '{"torn": \none\ntwo\nthree\n'
