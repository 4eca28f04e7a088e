"""The scheduler as a process: it starts what is due, says how it ended, and stops with its parent."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

import models
from online.events.buffer import Buffer
from online.events.event import Event, new_event_id
from online.model.fingerprint import fingerprint
from online.operations.installation import Installation
from online.operations.versions import collect, tidy
from online.registry.registry import Registry
from online.settings.groups import RegistrySettings
from online.settings.load import load
from online.state.directory import StateDir
from online.state.locks import Busy
from online.updates.record import UpdateOutcome, UpdateRecord
from tests.online.registry.adapters import BASE, write_adapter


def contested(number: int) -> Event:
    now = time.time()
    return Event(
        id=new_event_id(now),
        time=now,
        adapter="base",
        verdict="contested",
        prompt=f"prompt {number}",
        prompt_tokens=(number, 2, 3),
        response="text",
        response_tokens=(4, 5),
        entropies=(0.5, 1.5),
        entropy_mean=1.0,
        refusal_mass=0.5,
        finish_reason="stop",
        client="c" * 32,
        model=fingerprint(models.bundled()),
    )


@pytest.mark.slow
def test_contested_events_start_an_update_whatever_the_store_does_and_the_parents_end_stops_the_learner(tmp_path):
    state = StateDir(tmp_path / "state")
    flags = ["--learn-interval-s", "none", "--learn-min-contested", "3", "--learn-poll-interval-s", "0.2"]
    (tmp_path / "file").write_text("")
    flags += ["--registry-url", f"file://{tmp_path}/file/store", "--registry-pull-interval-s", "0.1"]
    command = [sys.executable, "-m", "serving", "learn", "--while-parent", "--state-dir", str(state.path), *flags]
    with (tmp_path / "log").open("wb") as log:
        learner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 600

        def wait(found) -> None:
            while not found():
                assert time.monotonic() < deadline and learner.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.1)

        wait(lambda: "the learner waits" in (tmp_path / "log").read_text())
        buffer = Buffer(state.buffer_url, load(env={}).buffer)
        buffer.append([contested(number) for number in range(4)])
        buffer.close()
        wait(lambda: list(state.updates.glob("*/outcome.json")))
        (path,) = state.updates.glob("*/outcome.json")
        outcome = json.loads(path.read_text())
        assert outcome["status"] == "refused" and "4 distinct prompts" in outcome["reasons"][0]
        assert "(contested)" in (tmp_path / "log").read_text()
        wait(lambda: (tmp_path / "log").read_text().count("NotADirectoryError") == 3)  # once, and around the update
        learner.stdin.close()
        learner.wait(30)
    finally:
        learner.kill()
        learner.wait()
        learner.stdin.close()


def test_what_an_unfinished_update_made_is_not_collected(tmp_path):
    state = StateDir(tmp_path / "state")
    registry = Registry(state, BASE, RegistrySettings(keep=0, keep_back=0, url=f"file://{tmp_path}/store"))
    job = UpdateRecord.new(state.updates)
    for metrics in ({}, {"update": job.id}, {"update": "another"}, {}):
        with registry.stage() as staged:
            write_adapter(staged)
            registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics=metrics)
    gating = UpdateRecord.new(state.updates).claim("v4")
    here = Installation(load(env={}), models.bundled(), state, registry)
    with state.lock("update"), pytest.raises(Busy):
        collect(here, actor="test")
    assert collect(here, actor="test") == [1, 3]
    for one in (job, gating):
        one.finish(UpdateOutcome(one.id, "failed", (), None, 1.0))
    tidy(here)
    assert [adapter.state for adapter in registry.versions()] == ["collected"] * 4
    assert registry.store.numbers() == [1, 2, 3, 4] and not list((tmp_path / "store").rglob("*.safetensors"))
