"""One update that nothing disturbed, made once a run and copied by every test that begins where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from online.gate.evaluator import Suites
from tests.online.updates.place import Visited, bundled_suites
from tests.workers import WORKER


@pytest.fixture(scope="session")
def suites() -> Suites:
    return bundled_suites()


@pytest.fixture(scope="session")
def learned(suites: Suites, tmp_path_factory) -> Path:
    """The state directory it left, to be copied and not to be changed; the worker that asks first makes it for all."""
    root = tmp_path_factory.getbasetemp().parent if WORKER else tmp_path_factory.getbasetemp()
    with FileLock(root / "learned.lock"):
        if not (root / "learned").exists():
            place = Visited(tmp_path_factory.mktemp("learning") / "state", tensorboard=True)
            outcome = place.run(suites)
            assert outcome.version == 1, outcome.reasons
            place.buffer.close()
            place.state.path.rename(root / "learned")
    return root / "learned"
