"""The commands about what taught an adapter: they list it, and say in a sentence what cannot be done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import models
from benchmarks.adapters import make
from online.event import client_hash
from online.fingerprint import fingerprint
from online.ledger import Entry, Ledger
from online.registry import Registry
from online.state import StateDir
from tests.serving.command import sirl

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
