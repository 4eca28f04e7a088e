"""Tests that belong together run on one worker, as pytest and pytest-xdist are installed here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFTEST = """
import pytest
from tests import workers

def pytest_configure(config):
    config.pluginmanager.register(workers)

@pytest.fixture(scope="session")
def server():
    return None
"""
MODULE = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_alone(number): pass

@pytest.mark.parametrize("number", range(6))
def test_shared(server, number): pass

@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("number", range(6))
def test_nightly(number): pass
"""
MARKS = "[pytest]\nmarkers =\n  slow\n  nightly\n"


def test_groups_stay_on_one_worker_and_the_longest_begins_first(tmp_path: Path) -> None:
    for name, text in (("conftest", CONFTEST), ("test_one", MODULE), ("test_other", MODULE)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text(MARKS)
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    told = re.findall(r"\[(gw\d)\].* PASSED (test_\w+)\.py::(test_\w+)", run.stdout)
    assert len(told) == 36
    groups: dict[str, set[str]] = {}
    for worker, module, test in told:
        groups.setdefault("shared" if test == "test_shared" else f"{module} {test}", set()).add(worker)
    assert all(len(on) == 1 for on in groups.values()) and len(groups) == 5
    assert told[0][2] == "test_nightly"
