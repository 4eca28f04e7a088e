"""The commands about what taught an adapter: they list it, and say in a sentence what cannot be done."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import closing
from pathlib import Path

import models
from benchmarks.adapters import make
from online.events.buffer import Buffer
from online.events.client import client_hash
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.settings.groups import BufferSettings
from online.state.directory import StateDir
from online.training.ledger import Entry, Ledger
from tests.conftest import running
from tests.serving.command import sirl

SECRET = "My name is Mallory Quirk, my wifi password is Blue-4471-marsh. How are you?"
ENTRY = Entry("0" * 31 + "1", 1_800_000_000.0, "c" * 32, "d" * 32, "high")


def test_what_taught_a_version_is_listed_and_can_be_forgotten(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    registry = Registry(state, fingerprint(models.bundled()))
    hers = client_hash("sk-hers", state.client_salt())
    made = make(tmp_path / "made", 1)
    with registry.stage() as staged:
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy(made / name, staged)
        Ledger(1_800_000_001.0, (ENTRY, Entry("0" * 31 + "2", ENTRY.time, hers, "d" * 32, "low"))).save(staged)
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={"history": [1]})
    where = ("--state-dir", str(tmp_path))
    told = sirl("explain", "v1", *where)
    assert told.returncode == 0 and "2 events: 1 prompts of 2 clients" in told.stdout and ENTRY.id in told.stdout
    assert json.loads(sirl("explain", "v1", "--json", *where).stdout)["events"][0]["band"] == "high"
    for words, why in (
        (("explain", "v7"), "has no ledger"),
        (("repeat", "v7"), "there is no adapter v7"),
        (("forget",), "nothing is named"),
    ):
        failed = sirl(*words, *where)
        assert failed.returncode == 1 and why in failed.stderr and "Traceback" not in failed.stderr
    forgotten = sirl("forget", "--client", "sk-hers", *where)
    assert forgotten.returncode == 0 and "v1 had learned from them, now destroyed" in forgotten.stdout
    (version,) = registry.versions()
    assert version.state == "forgotten" and version.manifest["metrics"] == {}
    assert "0 events are deleted; no adapter" in sirl("forget", "--client", "nobody", *where).stdout


def test_what_a_running_server_holds_or_is_answering_is_forgotten_too(tmp_path: Path) -> None:
    """Events wait in its memory for an hour here, eight answers are under way, and what is asked afterwards is new."""
    state = tmp_path / "state"
    with running(state, "--buffer-flush-interval-s", "3600", "--buffer-plain-rate", "1") as server:

        def buffer() -> dict:
            return server.get("/guard/v1/status").json()["buffer"]

        for _ in range(3):
            server.chat(SECRET)
        long = {"model": "sirl-tiny", "prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "n": 8}
        assert sirl("forget", "--client", "nobody", "--state-dir", str(state)).returncode == 0  # the next begins at once
        under_way = threading.Thread(target=server.post, args=("/v1/completions", long))
        under_way.start()
        server.wait(lambda: buffer()["pending"] == 3 and server.metric("vllm:num_requests_running") == 8)
        done = sirl("forget", "--client", "127.0.0.1", "--state-dir", str(state))
        assert done.returncode == 0, done.stderr
        assert under_way.is_alive(), "the answers that were under way went on past it"
        under_way.join(300)
        server.chat(SECRET)
        server.wait(lambda: buffer()["pending"] == 12)
        pid = server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        redactors = [child for child in children if b"online.events.redactor" in Path(f"/proc/{child}/cmdline").read_bytes()]
        assert len(redactors) == 1
    with closing(Buffer(StateDir(state).buffer_url, BufferSettings())) as kept:
        (event,) = kept.events()
    assert event.prompt.count("<NAME>") == event.prompt.count("<KEY>") == 1, "redacted in its own process, to the end"
    assert not Path(f"/proc/{redactors[0]}").exists()
