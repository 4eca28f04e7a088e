"""`sirl adapters`: each act, and the sentence about it."""

from __future__ import annotations

import json
from pathlib import Path

from online.operations.installation import Installation
from tests.online.registry.adapters import promoted, publish
from tests.serving.cli.conftest import Run


def test_versions_are_listed_with_what_serves_and_what_is_on_its_way(sirl: Run, here: Installation) -> None:
    assert sirl("adapters", "list")[:2] == (0, "live: base\n")
    publish(here.registry)
    promoted(here.registry)
    sirl("adapters", "pin", "v1")
    status, out, _ = sirl("adapters", "release", "v2")
    assert status == 0 and out.startswith("v2 is on its way: ")
    lines = sirl("adapters", "list")[1].splitlines()
    assert lines[0].split("\t") == ["v1", "candidate", "", "pinned"] and lines[1].startswith("v2\t")
    assert lines[2] == "live: base" and lines[3].startswith("on its way: v2, ")
    assert sirl("adapters", "withdraw")[1] == "Nothing is on its way to serve.\n"


def test_what_its_gate_did_not_promote_takes_force_and_goes_back(sirl: Run, here: Installation) -> None:
    publish(here.registry)
    status, _, error = sirl("adapters", "activate", "v1")
    assert status == 1 and error.startswith("sirl: ") and here.registry.live() is None
    assert sirl("adapters", "activate", "v1", "--force")[0] == 0 and here.registry.live() == 1
    assert sirl("adapters", "rollback")[1] == "base is live again.\n" and here.registry.live() is None
    acts = [json.loads(line) for line in here.state.audit_path.read_text().splitlines()]
    assert {act["actor"] for act in acts if act["event"] in ("adapter.activated", "adapter.rolled_back")} == {"cli"}


def test_weights_that_nobody_needs_are_collected(sirl: Run, here: Installation) -> None:
    for _ in range(3):
        publish(here.registry)
    few = ("--registry-keep", "1", "--registry-keep-back", "0")
    assert sirl("adapters", "gc", *few)[1] == "the weights of v1, v2 are deleted.\n"
    assert sirl("adapters", "gc", *few)[1] == "the weights of no version are deleted.\n"


def test_a_store_is_brought_to_the_same(sirl: Run, here: Installation, tmp_path: Path) -> None:
    publish(here.registry)
    status, out, _ = sirl("adapters", "sync", "--registry-url", f"file://{tmp_path}/store")
    assert (status, out) == (0, "the registry and the store are the same.\n")
    assert (tmp_path / "store" / "v1" / "manifest.json").is_file()


def test_what_cannot_be_done_is_said(sirl: Run, tmp_path: Path) -> None:
    for words, said in (
        (("pin",), "nothing names no adapter"),
        (("unpin", "base"), "base names no adapter"),
        (("pin", "v1"), "there is no adapter v1"),
        (("sync",), "no store to sync with"),
        (("gate", "base"), "base names no adapter"),
        (("gate", "v1"), "there is no adapter v1"),
        (("import", str(tmp_path / "nowhere"), "--no-gate"), "not a directory"),
    ):
        status, out, error = sirl("adapters", *words)
        assert (status, out) == (1, "") and said in error, words
