"""Processes of ours in a working directory that holds modules by the names of ours, of Python's and of what we need."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.processes import interpreter
from serving.processes.learner_process import LearnerProcess
from tests.conftest import Server, running

ROOT = Path(__file__).parents[3]
HOSTILE = (
    "guard",
    "evaluation",
    "online",
    "serving",
    "models",
    "torch",
    "json",
    "socket",
    "pickle",
    "multiprocessing",
    "numpy",
    "vllm",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of modules that leave a mark when they are imported, and break whoever did it."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r} + '\\n')\nraise SystemExit('hostile {name}')\n"
        )
    monkeypatch.chdir(folder)
    return tmp_path


def imported(place: Path) -> str:
    """What was imported from the working directory."""
    mark = place / "imported"
    return mark.read_text() if mark.exists() else ""


def test_the_modules_there_are_what_python_would_import(place: Path):
    words = [sys.executable, "-m", "serving", "settings"]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}  # a test before may have set it
    assert subprocess.run(words, env=usual | {"PYTHONPATH": str(ROOT)}, capture_output=True).returncode
    assert imported(place) == "serving\n"


def test_a_command_of_ours_and_what_it_starts_import_nothing_from_there(place: Path):
    environment = interpreter.environment({"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep})
    run = subprocess.run(interpreter.command("serving", "settings"), env=environment, capture_output=True, text=True)
    assert (run.returncode, imported(place)) == (0, ""), run.stderr
    assert run.stdout == (ROOT / "docs/reference/settings.md").read_text()
    grandchild = [sys.executable, "-c", "import guard, multiprocessing; print(guard.__file__)"]
    said = subprocess.run(grandchild, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert said == str(ROOT / "guard/__init__.py") and imported(place) == ""


def test_by_hand_python_finds_our_package_and_then_looks_there_no_more(place: Path):
    """`python -m serving` puts the working directory first before any line of ours: what is called `serving` there wins."""
    (place / "work/serving.py").unlink()
    (place / "work/models.py").unlink()
    run = subprocess.run(
        [sys.executable, "-m", "serving", "settings"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, imported(place)) == (0, ""), run.stderr


def test_an_update_that_the_server_starts_imports_nothing_from_there(place: Path):
    learner = LearnerProcess(["--state-dir", str(place / "state")], place / "learner.log", supervise=False)
    assert learner.update()
    while learner.updating:
        time.sleep(0.1)
    learner.stop()
    log = (place / "learner.log").read_text()
    assert imported(place) == "" and "The update was refused" in log, log


@pytest.mark.engine
@pytest.mark.nightly
def test_a_server_its_engine_and_its_learner_import_nothing_from_there(place: Path):
    with running(place / "state", "--learn") as server:
        server.wait(lambda: "the learner waits" in log_of(server), limit=300)
        assert server.chat("Hello", max_tokens=2)["choices"]
    assert imported(place) == ""


def log_of(server: Server) -> str:
    log = server.state / "learner.log"
    return log.read_text() if log.exists() else ""
