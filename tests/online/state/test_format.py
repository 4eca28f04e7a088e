"""Format numbers of the files that one sirl-guard writes and another one reads: the current one, none (files of before), a
newer one, and nonsense."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guard.errors import SirlError
from online.events.event import new_event_id
from online.operations.installation import Installation
from online.operations.versions import collect
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.version_folder import MANIFEST
from online.settings.groups import RegistrySettings
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.state.format import FormatError, require
from online.training.ledger import Entry, Ledger, LedgerError
from online.updates.forget import erase
from online.updates.history import happened
from online.updates.progress import last_started
from online.updates.record import PlanError, UpdateRecord
from tests.online.events.test_buffer import NOW, SETTINGS, Buffer, url
from tests.online.registry.shared import clear
from tests.online.registry.test_object_store import Frail, Place
from tests.online.registry.test_signature import pem, private_file
from tests.online.updates.test_killed import BASE, published

NEWER = r"was written by a newer sirl-guard \(format 7; this one reads up to [12]\): upgrade this one\.$"
NONSENSE = ["1", -1, True, None, 1.0, [1]]


def edit(path: Path, **fields: object) -> None:
    """Rewrite some of the fields of a JSON file; those that are ... are taken away."""
    document = json.loads(path.read_text()) | fields
    path.chmod(0o600)
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))


class Files:
    """An installation with one of each file, and how each is read."""

    def __init__(self, path: Path) -> None:
        self.state = StateDir(path)
        self.registry = Registry(self.state, BASE)
        with self.registry.stage() as staged:
            for name in ("adapter_model.safetensors", "adapter_config.json"):
                (staged / name).write_text("{}")
            self.ledger = Ledger(NOW, (Entry(new_event_id(NOW), NOW, "c" * 32, "p" * 32, "high"),))
            self.ledger.save(staged)
            self.registry.publish(staged, parent=None, settings={}, data_fingerprint="d", metrics={})
        self.registry.attach(1, "evaluation", {"decision": "promoted", "best": 1})
        self.registry.activate(1, actor="test", reason="trial")
        self.registry.pin(1, actor="test")
        self.job = UpdateRecord.new(self.state.updates, NOW).claim("key")
        registry = self.registry
        self.all: dict[str, tuple[Path, Callable[[], object], object, type[SirlError]]] = {
            "manifest": (registry.path(1) / MANIFEST, lambda: registry.manifest(1)["base"], BASE, RegistryError),
            "live": (registry.path(1).parent / "live.json", registry.live, 1, RegistryError),
            "pins": (registry.path(1).parent / "pins.json", registry.pins, (1,), RegistryError),
            "ledger": (registry.path(1) / "ledger.json", lambda: Ledger.load(registry.path(1)), self.ledger, LedgerError),
            "plan": (self.job.folder / "plan.json", lambda: UpdateRecord.load(self.job.folder), self.job, PlanError),
        }


NAMES = {"manifest": 1, "live": 1, "pins": 1, "ledger": 2, "plan": 1}
"""The files with the format that is written today."""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "state")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_has_the_current_format_and_what_is_of_before_has_none(files: Files, name: str) -> None:
    path, read, wanted, _ = files.all[name]
    assert json.loads(path.read_text())["format"] == NAMES[name] and read() == wanted
    edit(path, format=...)
    assert "format" not in json.loads(path.read_text()) and read() == wanted
    edit(path, format=0)
    assert read() == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_newer_format_is_one_sentence_that_asks_for_an_upgrade(files: Files, name: str) -> None:
    path, read, *_ = files.all[name]
    edit(path, format=7)
    with pytest.raises(SirlError, match=NEWER) as caught:
        read()
    assert "\n" not in str(caught.value) and (
        "v1" in str(caught.value) if name == "ledger" else str(path) in str(caught.value)
    )


@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
@pytest.mark.parametrize("name", NAMES)
def test_a_format_that_is_no_number_is_damage(files: Files, name: str, nonsense: object) -> None:
    path, read, _, damaged = files.all[name]
    edit(path, format=nonsense)
    with pytest.raises(damaged, match=r"no number of a format.*[^.]\.$"):
        read()
    path.write_text("[]")
    with pytest.raises(damaged, match=r"[^.]\.$"):
        read()


def test_the_reader_knows_every_format_up_to_its_own() -> None:
    for found in range(4):
        require({"format": found}, 3, "it")
    with pytest.raises(FormatError, match="format 4; this one reads up to 3"):
        require({"format": 4}, 3, "it")


def test_a_newer_live_json_is_neither_followed_nor_replaced(files: Files) -> None:
    registry, path = files.registry, files.all["live"][0]
    edit(path, format=7)
    before = path.read_bytes()
    for act in (
        lambda: registry.activate(None, actor="test", reason="over it", force=True),
        lambda: registry.rollback(actor="test", reason="over it"),
        lambda: registry.release(None, actor="test", reason="over it"),
        lambda: registry.collect(actor="test"),
        lambda: registry.destroy(1, actor="test", reason="over it"),
    ):
        with pytest.raises(FormatError, match=NEWER):
            act()
    assert path.read_bytes() == before and registry.folder(1).forgotten is False
    assert [adapter.state for adapter in registry.versions()] == ["candidate"], "it is listed, as what nobody knows to serve"
    assert published(registry) == 2, "and what was learned is not lost"


def test_newer_pins_are_neither_followed_nor_replaced(files: Files) -> None:
    registry, path = files.registry, files.all["pins"][0]
    edit(path, format=7)
    before = path.read_bytes()
    for act in (
        lambda: registry.pin(1, actor="test"),
        lambda: registry.unpin(1, actor="test"),
        lambda: registry.collect(actor="test"),
    ):
        with pytest.raises(FormatError, match=NEWER):
            act()
    assert path.read_bytes() == before and [adapter.pinned for adapter in registry.versions()] == [False]


def test_a_version_of_a_newer_format_is_not_served_and_a_rollback_passes_over_it(files: Files) -> None:
    registry = files.registry
    second, third = published(registry), published(registry)
    for version in (second, third):
        registry.activate(version, actor="test", reason="trial")
    edit(registry.path(second) / MANIFEST, format=7)
    with pytest.raises(RegistryError, match=NEWER):
        registry.activate(second, actor="test", reason="trial", force=True)
    assert registry.versions()[second - 1].state == "damaged"
    assert registry.rollback(actor="test", reason="trial") == 1


def test_a_signature_is_over_the_very_bytes_of_a_manifest_with_or_without_a_format(tmp_path: Path) -> None:
    key = private_file(tmp_path / "key.pem", pem(Ed25519PrivateKey.generate()))
    registry = Registry(StateDir(tmp_path / "state"), BASE, RegistrySettings(signing_key=key))
    path = registry.path(published(registry)) / MANIFEST
    registry.verify(1)
    assert json.loads(path.read_text())["format"] == 1
    edit(path, format=...)
    with pytest.raises(RegistryError, match="bears no signature of a trusted key"):
        registry.verify(1)
    path.with_name("manifest.json.sig").unlink()
    registry.sign(1)  # as one that was signed before there were formats
    registry.verify(1)
    registry.destroy(1, actor="test", reason="trial")
    assert "format" not in json.loads(path.read_text()), "what is rewritten stays of the format it was"


def test_nothing_is_forgotten_half_where_a_ledger_is_of_a_newer_format(files: Files, tmp_path: Path) -> None:
    """Its version may have learned from what is to go."""
    edit(files.all["ledger"][0], format=7)
    buffer = Buffer(url(tmp_path / "b.sqlite"), SETTINGS)
    with pytest.raises(FormatError, match="the ledger of v1 was written by a newer"):
        erase(files.state, files.registry, buffer, ["c" * 32], [])
    assert files.registry.live() == 1 and not files.registry.folder(1).forgotten
    buffer.close()


def test_an_update_that_a_newer_one_began_is_left_to_it(files: Files) -> None:
    installation = Installation(Settings(), Path("model"), files.state, files.registry)
    edit(files.all["plan"][0], format=7)
    with pytest.raises(FormatError, match=NEWER):
        UpdateRecord.open(files.state.updates)
    with pytest.raises(FormatError, match=NEWER):  # what it made may be needed
        collect(installation, actor="test")
    (finding,) = [finding for finding in happened(files.state) if finding.subject == "updates"]
    assert finding.level == "error" and "newer sirl-guard" in finding.message
    edit(files.all["plan"][0], format="x")
    assert collect(installation, actor="test") == []
    edit(files.all["plan"][0], started="yesterday")
    assert last_started(files.state, 5.0) == 5.0


def test_a_plan_of_before_goes_on(files: Files) -> None:
    """Those of the first releases had neither a cutoff nor, before that, a count of attempts."""
    for fields in ({}, {"until": ...}, {"attempt": ..., "until": ...}):
        edit(files.all["plan"][0], format=..., **fields)
        job = UpdateRecord.open(files.state.updates)
        assert (job.id, job.key, job.started) == (files.job.id, "key", files.job.started)
    assert job.attempt == 2


@pytest.fixture
def store() -> Iterator[Frail]:
    clear()
    yield fsspec.filesystem("frail")
    clear()


@pytest.mark.parametrize("name", ["live.json", "pins.json"])
def test_what_is_newer_in_the_store_is_neither_followed_nor_replaced(tmp_path: Path, store: Frail, name: str) -> None:
    learner, server = Place(tmp_path / "learner"), Place(tmp_path / "server")
    for version in (learner.publish(), learner.publish()):
        learner.activate(version)
        learner.registry.pin(version, actor="test")
    learner.sync()
    server.sync()
    newer = json.dumps(json.loads(store.cat_file(f"/sirl/{name}")) | {"format": 7}).encode()
    store.pipe_file(f"/sirl/{name}", newer)
    server.activate(1)
    server.registry.unpin(2, actor="test")
    learner.publish()
    learner.registry.attach(3, "calibration", {"made": 4})
    for _ in range(2):
        with pytest.raises(FormatError, match=f"The store's {name} was written by a newer"):
            server.sync()
        said = server.share.attempt()
        assert said is not None and "What is here goes on as it is" in said
    assert store.cat_file(f"/sirl/{name}") == newer
    assert server.registry.live() == 1 and server.registry.pins() == (1,)
    with pytest.raises(FormatError):
        learner.sync()
    assert "v3/manifest.json" in {path.removeprefix("/sirl/") for path in store.find("/sirl")}, "all else is shared"
