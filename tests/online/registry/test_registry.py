from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

import models
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE, audit, promoted, publish, write_adapter


def test_publish_records_and_protects(registry: Registry) -> None:
    assert publish(registry) == 1 and publish(registry, parent=1) == 2
    registry.verify(2)
    manifest = registry.manifest(2)
    assert (manifest["parent"], manifest["base"], manifest["origin"]) == (1, BASE, "update")
    assert set(manifest["files"]) == {"adapter_model.safetensors", "adapter_config.json"}
    assert [(adapter.name, adapter.state) for adapter in registry.versions()] == [
        ("v1", "candidate"),
        ("v2", "candidate"),
    ]
    assert registry.path(2).joinpath("manifest.json").stat().st_mode & 0o222 == 0
    assert not list(registry.path(1).parent.glob(".staging-*"))


FULL_DISK = """
import resource, sys
from pathlib import Path
from online.registry.registry import Registry
from online.state.directory import StateDir
from online.state.errors import StateError
from tests.online.registry.adapters import BASE, publish, write_adapter
registry = Registry(StateDir(Path(sys.argv[1])), BASE)
publish(registry)
registry.activate(1, actor="t", reason="r", force=True)
with registry.stage() as staged:
    write_adapter(staged)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.RLIM_INFINITY))
    for act in (
        lambda: registry.publish(staged, parent=1, settings={}, data_fingerprint="", metrics={}),
        lambda: registry.activate(None, actor="t", reason="r"),
    ):
        try:
            act()
        except StateError as error:
            print(error)
"""


def test_full_disk_changes_nothing(registry: Registry) -> None:
    state = registry.path(1).parent.parent
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(state)], capture_output=True, text=True, check=True)
    assert run.stdout.count("free some space") == 2
    assert registry.live() == 1 and [adapter.version for adapter in registry.versions()] == [1]
    assert publish(registry) > 1


def test_rejected_needs_force(registry: Registry) -> None:
    publish(registry)
    registry.attach(1, "evaluation", {"decision": "rejected"})
    assert registry.versions()[0].state == "rejected"
    with pytest.raises(RegistryError, match="rejected by its gate"):
        registry.activate(1, actor="test", reason="trial")
    registry.activate(1, actor="test", reason="trial", force=True)
    assert registry.versions()[0].state == "live"


def test_what_a_gate_left_undecided_may_be_decided_once(registry: Registry) -> None:
    publish(registry)
    for decision in ("undecided", "undecided", "promoted"):
        registry.attach(1, "evaluation", {"decision": decision, "at": decision})
    assert registry.evaluation(1)["decision"] == "promoted"
    with pytest.raises(RegistryError, match="keeps it"):
        registry.attach(1, "evaluation", {"decision": "undecided"})


def test_an_evaluation_is_written_once_and_a_calibration_may_be_made_anew(registry: Registry) -> None:
    publish(registry)
    registry.attach(1, "evaluation", {"decision": "rejected"})
    registry.attach(1, "evaluation", {"decision": "rejected"})
    with pytest.raises(RegistryError, match="keeps it"):
        registry.attach(1, "evaluation", {"decision": "promoted"})
    for value in (1, 2):
        registry.attach(1, "calibration", {"a": value})
        assert json.loads(registry.calibration_path("v1").read_text()) == {"a": value}
    with pytest.raises(RegistryError, match="there is no adapter v7"):
        registry.attach(7, "evaluation", {})
    registry.verify(1)


def test_another_base_is_refused(registry: Registry, tmp_path: Path) -> None:
    publish(registry)
    other = Registry(StateDir(tmp_path / "state"), "sha256:other")
    with pytest.raises(RegistryError, match="another base"):
        other.activate(1, actor="test", reason="trial", force=True)


def test_a_manifest_says_which_ledger_taught_it(registry: Registry) -> None:
    publish(registry)
    with registry.stage() as staged:
        write_adapter(staged)
        (staged / "ledger.json").write_text("{}")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    digests = [registry.manifest(version)["ledger"] for version in (1, 2)]
    assert digests == [None, registry.manifest(2)["files"]["ledger.json"]["sha256"]]


def served(registry: Registry, *versions: int) -> None:
    for version in versions:
        registry.activate(version, actor="test", reason="trial", force=True)


def states(registry: Registry) -> list[str]:
    return [adapter.state for adapter in registry.versions()]


def few(tmp_path: Path, **settings: int) -> Registry:
    """One that keeps next to nothing."""
    return Registry(StateDir(tmp_path / "state"), BASE, RegistrySettings(**({"keep": 0, "keep_back": 0} | settings)))


def test_what_nobody_needs_is_collected_and_stays_explained(tmp_path: Path) -> None:
    registry = few(tmp_path)
    for version in (publish(registry), publish(registry), publish(registry)):
        registry.attach(version, "evaluation", {"decision": "promoted"})
        registry.attach(version, "calibration", {})
    served(registry, 1, 2)
    assert registry.collect(keep=[3], actor="test") == [1]
    assert registry.collect(keep=[3], actor="test") == []
    assert states(registry) == ["collected", "live", "candidate"] and registry.versions()[0].decision == "promoted"
    left = {file.name for file in registry.path(1).iterdir()}
    assert left == {"manifest.json", "adapter_config.json", "evaluation.json", "calibration.json", "collected.json"}
    assert registry.manifest(1)["settings"] == {"steps": 3}
    for act in (lambda: served(registry, 1), lambda: registry.verify(1), lambda: registry.pin(1, actor="test")):
        with pytest.raises(RegistryError, match="v1's weights were collected, for nobody needed them any more; use another"):
            act()
    assert registry.rollback(actor="test", reason="back") is None, "it passes over what was collected"
    assert audit(registry).count("adapter.collected") == 1 and "adapter.passed_over" in audit(registry)
    registry.destroy(1, actor="test", reason="trial")
    assert states(registry)[0] == "forgotten"
    assert {file.name for file in registry.path(1).iterdir()} == {"manifest.json", "forgotten.json"}


def test_the_way_back_the_newest_and_the_pinned_stay(tmp_path: Path) -> None:
    registry = few(tmp_path, keep=2, keep_back=2)
    for _ in range(8):
        promoted(registry)
    served(registry, 1, 2, 3, 2)
    registry.activate(None, actor="test", reason="trial")
    served(registry, 3, 4)
    registry.pin(5, actor="test")
    assert registry.collect(actor="test") == [1, 6]
    registry.unpin(5, actor="test")
    assert registry.collect(actor="test") == [5]
    assert [registry.rollback(actor="test", reason="back") for _ in range(3)] == [3, None, 2]


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 6)), max_size=8),
    st.sets(st.integers(1, 6)),
    st.sets(st.integers(1, 6)),
    st.integers(0, 7),
    st.integers(0, 4),
)
@hypothesis(max_examples=30)
def test_whatever_was_asked_what_is_needed_is_never_collected(
    activations: list, pins: set[int], kept: set[int], keep: int, keep_back: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        registry = few(Path(folder), keep=keep, keep_back=keep_back)
        for _ in range(6):
            publish(registry)
        for version in activations:
            registry.activate(version, actor="test", reason="trial", force=True)
        for version in pins:
            registry.pin(version, actor="test")
        gone = set(registry.collect(kept, actor="test"))
        assert not gone & (pins | kept | {registry.live()} | set(range(7 - keep, 7)))
        assert {version for version in range(1, 7) if version not in gone} == {
            adapter.version for adapter in registry.versions() if adapter.state != "collected"
        }
        for version in set(range(1, 7)) - gone:
            registry.verify(version)
        back = dict.fromkeys(version for version in reversed(registry.pointer.read().stack) if version)
        assert not gone & set(list(back)[:keep_back])


def test_nothing_is_collected_by_a_damaged_live_or_pins_file(tmp_path: Path) -> None:
    registry = few(tmp_path)
    publish(registry)
    for name in ("live.json", "pins.json"):
        file = registry.path(1).parent / name
        file.write_text('{"pins": ["1"]}')
        with pytest.raises(RegistryError, match=f"{name} is damaged"):
            registry.collect(actor="test")
        file.unlink()
    assert states(registry) == ["candidate"]
    (registry.path(1) / "manifest.json").unlink()
    assert registry.collect(actor="test") == [], "what cannot be read is left to be looked at"


def test_peft_loads_what_is_published_and_gives_our_logits(tmp_path: Path) -> None:
    llm = LocalModel.load(models.bundled())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in llm.add_adapter("a", LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")):
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    registry = Registry(StateDir(tmp_path / "state"), fingerprint(models.bundled()))
    with registry.stage() as staged:
        llm.save_adapter("a", staged)
        version = registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    registry.attach(version, "evaluation", {"decision": "promoted"})
    registry.verify(version)
    base = AutoModelForCausalLM.from_pretrained(models.bundled(), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, registry.path(version)).eval()
    prompt, response = list(llm.render([{"role": "user", "content": "How do I bake bread?"}])), [5, 6, 7, 8]
    with torch.no_grad():
        theirs = loaded(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        bare, _, _ = llm.response_logits([prompt], [response])
        with llm.adapter("a"):
            ours, _, _ = llm.response_logits([prompt], [response])
    torch.testing.assert_close(ours.whole()[0], theirs)
    assert not torch.allclose(bare.whole()[0], theirs, atol=0.1)
