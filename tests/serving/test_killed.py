"""A server that is killed in the middle of swaps, and one whose learner is: what serves is what live.json says."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import models
from benchmarks import adapters
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.conftest import Server, running

pytestmark = pytest.mark.engine


def children(server: Server, word: bytes) -> list[int]:
    """The processes that a server started with this word in their command: b"learn" its learner, b"VLLM::EngineCore"."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it ended meanwhile
            continue
        if word in words and parent == server.process.pid:
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lives", [2, pytest.param(3, marks=pytest.mark.nightly)])
def test_a_learner_that_is_killed_is_started_again_and_a_killed_server_serves_what_live_json_says(
    tmp_path: Path, lives: int
) -> None:
    """Killed in the middle of swaps: in its first life the whole server, in its second the engine, which takes it along."""
    state, luck = tmp_path / "state", random.Random(0)
    registry = Registry(StateDir(state), fingerprint(models.bundled()))
    versions = [
        registry.import_adapter(adapters.make(tmp_path / f"lora-{seed}", seed), base_dir=models.bundled(), max_rank=16)
        for seed in (1, 2)
    ]
    for life in range(lives):
        with running(state, "--learn") as server:
            expected = registry.live()
            entry = server.chat("hello")["guard"][0]
            assert entry["adapter"] == ("base" if expected is None else f"v{expected}"), f"life {life}"
            assert entry["entropy"]["mean"] is not None and not server.get("/guard/v1/status").json()["problems"].get(
                "adapters"
            )
            if not life:
                (first,) = server.wait(lambda: children(server, b"learn"))
                os.kill(first, signal.SIGKILL)
                server.wait(lambda first=first: (now := children(server, b"learn")) and now != [first])
                assert server.chat("hello")["guard"][0]["adapter"] == "base"
            for _ in range(4):
                registry.activate(luck.choice([None, *versions]), actor="test", reason="test", force=True)
                time.sleep(luck.uniform(0, 0.5))  # somewhere between the writing and the swap
            if life == 1:
                (engine,) = children(server, b"VLLM::EngineCore")
                os.kill(engine, signal.SIGKILL)
                assert server.process.wait(60) == 1, "who restarts what fails must see that it did"
                assert "sirl: The engine died" in server.log.read_text()
            else:
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()
