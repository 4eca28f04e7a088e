from __future__ import annotations

import errno
import json
import multiprocessing
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import online.state.directory as state_module
from online.state.directory import StateDir
from online.state.errors import StateError

SPAWN = multiprocessing.get_context("spawn")


def _key(path: str) -> tuple[str, str]:
    state = StateDir(Path(path))
    return state.internal_key(), state.client_salt()


def test_directory_and_keys_are_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "a" / "b")
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    key = state.internal_key()
    assert len(bytes.fromhex(key)) == 32 and key != state.client_salt()
    assert stat.S_IMODE((state.path / "internal.key").stat().st_mode) == 0o600
    assert StateDir(state.path).internal_key() == key
    assert {finding.level for finding in state.check()} == {"ok"}


def test_racing_processes_get_the_same_key(tmp_path: Path) -> None:
    with SPAWN.Pool(2) as pool:
        assert len(set(pool.map(_key, [str(tmp_path)] * 4, chunksize=1))) == 1


def test_corrupt_key(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    (tmp_path / "internal.key").write_bytes(b"\xff\x00")
    with pytest.raises(StateError, match="is corrupt; delete it"):
        state.internal_key()
    assert any(finding.level == "error" for finding in state.check())


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError, match="not a directory"):
            StateDir(path)


def test_a_directory_that_cannot_be_made() -> None:
    with pytest.raises(StateError, match=r"\.$"):
        StateDir(Path("/proc/sirl-guard"))


def test_loose_permissions_are_found(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    tmp_path.chmod(0o755)
    assert any("chmod" in finding.message for finding in state.check())


def test_a_vanished_directory_is_found(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "gone")
    state.path.rmdir()
    assert state.check()[0].level == "error"


SERVING = """
import sys, time
from pathlib import Path
from online.state.directory import StateDir
with StateDir(Path(sys.argv[1])).served("http://127.0.0.1:8000"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_directory_has_one_server_which_is_named_and_outlives_no_kill(tmp_path: Path) -> None:
    def serve() -> None:
        with StateDir(tmp_path).served("http://127.0.0.1:8001"):
            StateDir(tmp_path).audit("served")

    with subprocess.Popen([sys.executable, "-c", SERVING, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=f"its server already, process {process.pid} at http://127.0.0.1:8000; stop"):
            serve()
        with StateDir(tmp_path).lock("update"):
            StateDir(tmp_path).audit("learned beside it")
        process.kill()
    serve()
    events = [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert events == ["learned beside it", "served"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(handle: int, kind: int) -> None:
        raise OSError(code, "no locks")

    state = StateDir(tmp_path)
    monkeypatch.setattr("fcntl.flock", flock)
    for act in (lambda: state.served("x").__enter__(), lambda: state.audit("x"), state.client_salt):
        with pytest.raises(StateError, match="file system without locks"):
            act()


def test_calibration_path_takes_names_only(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.calibration_path("v3") == tmp_path / "registry" / "v3" / "calibration.json"
    assert state.calibration_path("base").parent.is_dir()
    for name in ("../x", "v0", "v", ""):
        with pytest.raises(StateError):
            state.calibration_path(name)


def test_audit_closes_off_a_torn_line(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.audit("one", version=1)
    with state.audit_path.open("ab") as stream:
        stream.write(b'{"event": "tor')
    state.audit("two")
    lines = state.audit_path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in (lines[0], lines[2])] == ["one", "two"]


def test_audit_is_bounded_and_tells_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file is put aside, the oldest goes, and no text is longer than it may be."""
    monkeypatch.setattr(state_module, "_AUDIT_BYTES", 1_000)
    state = StateDir(tmp_path)
    for number in range(200):
        state.audit("one", number=number)
    files = state.audit_files()
    assert [path.name for path in files] == [*(f"audit.jsonl.{n}" for n in (4, 3, 2, 1)), "audit.jsonl"]
    assert all(path.stat().st_size < 1_200 and path.stat().st_mode & 0o077 == 0 for path in files)
    numbers = [json.loads(line)["number"] for path in files for line in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 200))
    state.audit("long", text="x" * 100_000)
    assert state.audit_path.stat().st_size + files[-2].stat().st_size < 5_000


def test_audit_loses_nothing_to_others_who_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at once, over several files put aside."""
    monkeypatch.setattr(state_module, "_AUDIT_BYTES", 6_000)
    state = StateDir(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: state.audit("one", number=number), range(200)))
    lines = [json.loads(line) for path in state.audit_files() for line in path.read_text().splitlines()]
    assert len(state.audit_files()) > 1 and sorted(line["number"] for line in lines) == list(range(200))


def test_an_audit_that_cannot_be_put_aside_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_AUDIT_BYTES", 10)
    state = StateDir(tmp_path)
    state.audit("one")
    (tmp_path / "audit.jsonl.4").mkdir()
    (tmp_path / "audit.jsonl.3").write_text("")
    state.audit("two")
    assert [json.loads(line)["event"] for line in state.audit_path.read_text().splitlines()] == ["one", "two"]


def test_a_read_only_file_system_is_said_to_be_one(tmp_path: Path) -> None:
    """A real mount, in a mount namespace of its own; what was there can still be told."""
    StateDir(tmp_path / "state").audit("adapter.activated", version=1)
    script = f"""
        mount --bind {tmp_path}/state {tmp_path}/state && mount -o remount,ro,bind {tmp_path}/state || exit 77
        exec {sys.executable} -c "
from pathlib import Path
from online.state.directory import StateDir
from online.state.errors import StateError
try:
    StateDir(Path('{tmp_path}/state'))
except StateError as said:
    print(said)
"
    """
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode == 77 or "unshare failed" in run.stderr:
        pytest.skip("this user may not mount")
    assert run.stdout.strip().endswith("is on a read-only file system; mount it for writing or choose another --state-dir.")
