import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import models
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.registry.adapter_check import AdapterError
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.release_record import Release
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir

BASE = "sha256:base"
MODULE = "model.layers.0.self_attn.q_proj"
SPAWN = multiprocessing.get_context("spawn")


def weights(rank: int = 4) -> dict[str, torch.Tensor]:
    prefix = f"base_model.model.{MODULE}"
    return {f"{prefix}.lora_A.weight": torch.ones(rank, 8), f"{prefix}.lora_B.weight": torch.ones(16, rank)}


def write_adapter(directory: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(weights() if tensors is None else tensors, directory / "adapter_model.safetensors")
    document = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(document | config))
    return directory


def publish(registry: Registry, parent: int | None = None) -> int:
    with registry.stage() as staged:
        write_adapter(staged)
        return registry.publish(staged, parent=parent, settings={"steps": 3}, data_fingerprint="d", metrics={})


def promoted(registry: Registry) -> int:
    version = publish(registry)
    registry.attach(version, "evaluation", {"decision": "promoted"})
    return version


def publish_many(path: str) -> list[int]:
    registry = Registry(StateDir(Path(path)), BASE)
    return [publish(registry) for _ in range(5)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(StateDir(tmp_path / "state"), BASE)


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    save_file({f"{MODULE}.weight": torch.zeros(16, 8)}, directory / "model.safetensors")
    return directory


def audit(registry: Registry) -> list[str]:
    lines = (registry.path(1).parent.parent / "audit.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


# Publishing


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


def test_numbers_are_never_reused(registry: Registry) -> None:
    for _ in range(3):
        publish(registry)
    shutil.rmtree(registry.path(3))
    assert publish(registry) == 4
    (registry.path(1).parent / "counter").write_bytes(b"torn\x00")
    assert publish(registry) == 5


def test_two_publishers_at_once(registry: Registry) -> None:
    state = str(registry.path(1).parent.parent)
    with SPAWN.Pool(2) as pool:
        numbers = [number for batch in pool.map(publish_many, [state, state], chunksize=1) for number in batch]
    assert sorted(numbers) == list(range(1, 11))
    for number in numbers:
        registry.verify(number)


def test_a_failed_stage_leaves_nothing(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no adapter_model\.safetensors"), registry.stage() as staged:
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    with pytest.raises(RegistryError, match="cannot be part"), registry.stage() as staged:
        write_adapter(staged)
        (staged / "link").symlink_to("/etc/passwd")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    assert registry.versions() == [] and not list(registry.path(1).parent.glob(".staging-*"))


def test_sweep_removes_what_the_dead_left(registry: Registry) -> None:
    code = (
        "import os, signal, sys; from tests.online.registry.test_registry import *\n"
        "with Registry(StateDir(Path(sys.argv[1])), BASE).stage() as staged:\n"
        "    write_adapter(staged); os.kill(os.getpid(), signal.SIGKILL)"
    )
    state = registry.path(1).parent.parent
    assert subprocess.run([sys.executable, "-c", code, str(state)], check=False).returncode == -9
    with registry.stage() as mine:
        assert registry.sweep() == 1 and mine.is_dir()
    assert registry.versions() == []


FULL_DISK = """
import resource, sys
from tests.online.registry.test_registry import *
from online.state.errors import StateError
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


# What serves


def test_activate_and_roll_back(registry: Registry) -> None:
    for _ in range(3):
        promoted(registry)
    assert registry.live() is None and registry.watch_stamp()[0] == (0, 0, 0)
    stamps = {registry.watch_stamp()}
    for version in (1, 2, 2, 3):
        registry.activate(version, actor="test", reason="trial")
        stamps.add(registry.watch_stamp())
    assert len(stamps) == 5 and registry.live() == 3
    assert [adapter.state for adapter in registry.versions()] == ["retired", "retired", "live"]
    assert [registry.rollback(actor="test", reason="back") for _ in range(3)] == [2, 1, None]
    assert registry.live() is None
    with pytest.raises(RegistryError, match="nothing servable was live before"):
        registry.rollback(actor="test", reason="back")
    assert audit(registry).count("adapter.rolled_back") == 3


def test_rollback_passes_over_what_was_damaged(registry: Registry) -> None:
    for version in (promoted(registry), promoted(registry), promoted(registry)):
        registry.activate(version, actor="test", reason="trial")
    shutil.rmtree(registry.path(2))
    assert registry.rollback(actor="test", reason="back") == 1
    assert "adapter.passed_over" in audit(registry)


@pytest.mark.parametrize("decision", ["rejected", "undecided", None])
def test_rollback_brings_back_only_what_its_gate_promoted(registry: Registry, decision: str | None, caplog) -> None:
    """A version that was forced once is no way back: it takes force again."""
    first, forced, third = promoted(registry), publish(registry), promoted(registry)
    if decision is not None:
        registry.attach(forced, "evaluation", {"decision": decision})
    for version in (first, forced, third):
        registry.activate(version, actor="test", reason="trial", force=True)
    assert registry.rollback(actor="test", reason="back") == first
    assert f"passed over on the way back: v{forced} {'was' if decision else 'has not been'}" in caplog.text
    assert registry.rollback(actor="test", reason="back") is None
    with pytest.raises(RegistryError, match="nothing servable was live before"):
        registry.rollback(actor="test", reason="back")


def test_rollback_of_a_version_without_a_way_back_is_to_the_base(registry: Registry) -> None:
    forced, second = publish(registry), promoted(registry)
    registry.pointer.write(forced, (), registry.pointer.read(), "test", "trial", "adapter.activated")
    registry.activate(second, actor="test", reason="trial")
    assert registry.rollback(actor="test", reason="back") is None and registry.live() is None


def test_rollback_passes_over_what_was_taken_back_itself(registry: Registry) -> None:
    first, second, third = promoted(registry), promoted(registry), promoted(registry)
    for version in (first, second, first, third):  # the second and then the first are on the way back
        registry.activate(version, actor="test", reason="trial")
    registry.release(Release(second, "canary", 0.5), actor="test", reason="trial")
    registry.release(None, actor="health", reason="its answers are worse")
    assert registry.rollback(actor="health", reason="its logits are NaN") == first
    assert registry.pointer.read().taken_back == {second, third}
    assert registry.rollback(actor="test", reason="back") is None, "over the second and the first, which was rolled back"
    registry.activate(second, actor="test", reason="by name it may serve again")
    registry.activate(first, actor="test", reason="as this one")
    assert registry.pointer.read().taken_back == {third}
    assert registry.rollback(actor="test", reason="back") == second


def test_what_replaces_a_version_on_its_way_does_not_take_it_back(registry: Registry) -> None:
    first, second = promoted(registry), promoted(registry)
    registry.release(Release(first, "shadow", 0.5), actor="test", reason="trial")
    registry.release(Release(second, "shadow", 0.5), actor="test", reason="trial")
    registry.activate(second, actor="test", reason="trial")
    assert registry.pointer.read().taken_back == set()


def test_rejected_needs_force(registry: Registry) -> None:
    publish(registry)
    registry.attach(1, "evaluation", {"decision": "rejected"})
    assert registry.versions()[0].state == "rejected"
    with pytest.raises(RegistryError, match="rejected by its gate"):
        registry.activate(1, actor="test", reason="trial")
    registry.activate(1, actor="test", reason="trial", force=True)
    assert registry.versions()[0].state == "live"


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


def _flip(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda path: _flip(path / "adapter_model.safetensors"), "was changed"),
        (lambda path: (path / "adapter_config.json").unlink(), "lacks a file"),
        (lambda path: (path / "extra.bin").write_bytes(b""), "file too many"),
        (lambda path: _flip(path / "manifest.json"), "is damaged"),
    ],
)
def test_damage_is_found_before_it_serves(registry: Registry, damage: Callable[[Path], object], wanted: str) -> None:
    publish(registry)
    damage(registry.path(1))
    with pytest.raises(RegistryError, match=wanted):
        registry.activate(1, actor="test", reason="trial", force=True)
    assert registry.live() is None and len(registry.versions()) == 1


@pytest.mark.parametrize("text", ["", '{"version": 1', '{"version": "1", "stack": [], "history": []}', "[]"])
def test_damaged_live_file(registry: Registry, text: str) -> None:
    publish(registry)
    registry.activate(1, actor="test", reason="trial", force=True)
    (registry.path(1).parent / "live.json").write_text(text)
    with pytest.raises(RegistryError, match="is damaged"):
        registry.live()
    assert registry.versions()[0].state == "candidate"
    registry.activate(1, actor="test", reason="mend", force=True)
    assert registry.live() == 1


def test_a_live_version_that_is_gone(registry: Registry) -> None:
    publish(registry)
    registry.activate(1, actor="test", reason="trial", force=True)
    shutil.rmtree(registry.path(1))
    with pytest.raises(RegistryError, match="which is gone"):
        registry.live()
    assert publish(registry) == 2


def test_a_manifest_says_which_ledger_taught_it(registry: Registry) -> None:
    publish(registry)
    with registry.stage() as staged:
        write_adapter(staged)
        (staged / "ledger.json").write_text("{}")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    digests = [registry.manifest(version)["ledger"] for version in (1, 2)]
    assert digests == [None, registry.manifest(2)["files"]["ledger.json"]["sha256"]]


def test_nothing_but_safetensors_and_json_is_part_of_a_version(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"training_args\.bin cannot be part of a version"), registry.stage() as staged:
        write_adapter(staged)
        (staged / "training_args.bin").write_bytes(b"")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    folder = registry.path(publish(registry))
    (folder / "x.pkl").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["x.pkl"] = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    (folder / "manifest.json").chmod(0o600)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RegistryError, match=r"lists x\.pkl, which is no part of an adapter"):
        registry.verify(1)


def test_a_write_under_way_beside_it_is_no_file_too_many(registry: Registry) -> None:
    (registry.path(publish(registry)) / ".calibration.json.0a.tmp").write_bytes(b"{")
    registry.verify(1)


# Keeping


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


def test_pins_are_kept_shown_and_go_with_what_is_destroyed(registry: Registry) -> None:
    for _ in range(3):
        publish(registry)
    registry.pin(3, actor="test")
    registry.pin(1, actor="test")
    registry.pin(3, actor="test")
    assert registry.pins() == (1, 3) and [a.pinned for a in registry.versions()] == [True, False, True]
    with pytest.raises(RegistryError, match="there is no adapter v7"):
        registry.pin(7, actor="test")
    registry.unpin(3, actor="test")
    registry.unpin(3, actor="test")
    assert registry.pins() == (1,) and audit(registry).count("adapter.pinned") == 3
    registry.destroy(1, actor="test", reason="trial")
    assert registry.pins() == ()
    (registry.path(1).parent / "pins.json").write_text("torn")
    assert len(registry.versions()) == 3
    with pytest.raises(RegistryError, match=r"pins\.json is damaged"):
        registry.pins()


# Standard PEFT


def test_peft_loads_what_is_published_and_gives_our_logits(tmp_path: Path) -> None:
    policy = LocalModel.load(models.bundled())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.add_adapter("a", LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")):
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    registry = Registry(StateDir(tmp_path / "state"), fingerprint(models.bundled()))
    with registry.stage() as staged:
        policy.save_adapter("a", staged)
        version = registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    registry.attach(version, "evaluation", {"decision": "promoted"})
    registry.verify(version)
    base = AutoModelForCausalLM.from_pretrained(models.bundled(), dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, registry.path(version)).eval()
    prompt, response = list(policy.render([{"role": "user", "content": "How do I bake bread?"}])), [5, 6, 7, 8]
    with torch.no_grad():
        theirs = loaded(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        bare, _, _ = policy.response_logits([prompt], [response])
        with policy.adapter("a"):
            ours, _, _ = policy.response_logits([prompt], [response])
    torch.testing.assert_close(ours.whole()[0], theirs)
    assert not torch.allclose(bare.whole()[0], theirs, atol=0.1)


# Importing


def test_import(registry: Registry, base_dir: Path, tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "in", auto_mapping={"parent_library": "os"}, revision="x")
    (source / "README.md").write_text("hello")
    version = registry.import_adapter(source, base_dir=base_dir, max_rank=16)
    registry.verify(version)
    assert registry.manifest(version)["origin"] == "import"
    config = json.loads((registry.path(version) / "adapter_config.json").read_text())
    assert config["r"] == 4 and "auto_mapping" not in config
    assert sorted(os.listdir(registry.path(version))) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    assert load_file(registry.path(version) / "adapter_model.safetensors").keys() == weights().keys()


def _truncate(source: Path) -> None:
    file = source / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])


def _rewrite(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        tensors = weights()
        change(tensors)
        save_file(tensors, source / "adapter_model.safetensors")

    return apply


A, B = weights()
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (lambda source: (source / "training_args.bin").write_bytes(b""), "could run code"),
    "truncated": (_truncate, "truncated"),
    "junk": (lambda source: (source / "adapter_model.safetensors").write_bytes(b"x" * 99), "truncated or no"),
    "no weights": (lambda source: (source / "adapter_model.safetensors").unlink(), "has no adapter_model"),
    "no config": (lambda source: (source / "adapter_config.json").unlink(), "has no adapter_config"),
    "config": (lambda source: (source / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
    "other kind": (lambda source: write_adapter(source, peft_type="IA3"), "only peft_type LORA"),
    "dora": (lambda source: write_adapter(source, use_dora=True), "use_dora"),
    "pissa": (lambda source: write_adapter(source, init_lora_weights="pissa"), "changes the base"),
    "big rank": (lambda source: write_adapter(source, weights(32), r=32), "raise --update-lora-rank"),
    "bad rank": (lambda source: write_adapter(source, r="4"), "no valid rank"),
    "wrong rank": (lambda source: write_adapter(source, r=2), "correct r"),
    "alpha": (lambda source: write_adapter(source, lora_alpha=None), "no valid lora_alpha"),
    "nan": (_rewrite(lambda tensors: tensors[A].fill_(float("nan"))), "not finite"),
    "bf16 inf": (
        _rewrite(lambda t: t.update({B: torch.full((16, 4), float("inf")).bfloat16()})),
        "not finite",
    ),
    "integers": (_rewrite(lambda tensors: tensors.update({A: tensors[A].long()})), "as I64"),
    "half a pair": (_rewrite(lambda tensors: tensors.pop(B)), "only one of"),
    "empty": (_rewrite(lambda tensors: tensors.clear()), "no tensors"),
    "base shape": (_rewrite(lambda tensors: tensors.update({A: torch.ones(4, 9)})), "of shape"),
    "base weight": (
        _rewrite(lambda tensors: tensors.update({"lm_head.weight": torch.ones(2)})),
        "no LoRA matrix",
    ),
    "module": (
        _rewrite(lambda t: t.update({A.replace("q_proj", "z_proj"): torch.ones(4, 8)})),
        "which this base has not",
    ),
    "recorded base": (
        lambda source: (source / "manifest.json").write_text('{"base": "sha256:other"}'),
        "another base",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_imports_are_one_sentence_and_leave_nothing(
    registry: Registry, base_dir: Path, tmp_path: Path, case: str
) -> None:
    damage, wanted = BAD[case]
    source = write_adapter(tmp_path / "in")
    damage(source)
    with pytest.raises(AdapterError) as caught:
        registry.import_adapter(source, base_dir=base_dir, max_rank=16)
    text = str(caught.value)
    assert wanted in text and text.endswith(".") and "\n" not in text
    assert registry.versions() == [] and not list(registry.path(1).parent.glob(".staging-*"))


def test_import_from_nowhere_or_for_no_base(registry: Registry, base_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="not a directory"):
        registry.import_adapter(tmp_path / "none", base_dir=base_dir, max_rank=16)
    (base_dir / "model.safetensors").write_bytes(b"x")
    with pytest.raises(AdapterError, match="restore that file"):
        registry.import_adapter(write_adapter(tmp_path / "in"), base_dir=base_dir, max_rank=16)
