"""Locks name their holder, and go with its process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from online.state.directory import StateDir
from online.state.locks import Busy


def test_lock_names_its_holder_and_outlives_no_one(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.lock("learner"):
        with pytest.raises(Busy, match=f"process {os.getpid()}"), state.lock("learner"):
            pass
        with state.lock("other"):
            pass
    with state.lock("learner"):
        pass


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from online.state.directory import StateDir\n"
        "with StateDir(Path(sys.argv[1])).lock('learner'):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"process {process.pid}"), StateDir(tmp_path).lock("learner"):
            pass
        process.kill()
    with StateDir(tmp_path).lock("learner"):
        pass
