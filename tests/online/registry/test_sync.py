"""One learner, several servers, one store between them: it may die or cut off anything at any moment."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from guard.errors import SirlError
from online.registry.errors import RegistryError
from online.registry.object_store import ObjectStoreError
from online.registry.sync import synchronise
from tests.online.registry.shared import Frail, Place, clear, one_sentence
from tests.online.registry.test_signature import KEY, pem, private_file, public


def test_what_the_learner_publishes_servers_serve(tmp_path: Path, url: str) -> None:
    learner, server, third = (Place(tmp_path / name, url) for name in ("learner", "server", "third"))
    for _ in range(2):
        learner.publish()
    learner.activate(1)
    for place in (learner, server, third):
        place.sync()
    assert server.told() == learner.told() == third.told() and server.registry.live() == 1
    server.activate(2)  # whoever activates says so to all
    server.registry.pin(1, actor="test")
    learner.registry.attach(1, "calibration", {"made": "anew"})
    for place in (server, learner, third, server):
        place.sync()
    assert server.told() == learner.told() == third.told() and learner.registry.live() == 2
    assert learner.registry.pins() == third.registry.pins() == (1,)
    assert json.loads(third.registry.calibration_path("v1").read_text()) == {"made": "anew"}
    third.registry.unpin(1, actor="test")
    assert third.registry.rollback(actor="test", reason="back") == 1
    for place in (third, learner):
        place.sync()
    assert learner.registry.live() == 1 and learner.registry.pins() == ()


def test_what_is_the_same_is_not_read_again(learner: Place, server: Place) -> None:
    learner.publish()
    learner.activate(1)
    learner.sync()
    server.sync()
    server.sync()
    Frail.left = 2
    server.sync()
    assert Frail.left == 1, "one listing"


def test_the_later_activation_wins_whatever_the_clocks_say(learner: Place, server: Place) -> None:
    for _ in range(2):
        learner.publish()
    learner.activate(1)
    learner.sync()
    server.sync()
    stale = Frail.store["/sirl/live.json"].getvalue()
    server.activate(2)
    server.sync()
    learner.sync()
    assert learner.registry.live() == 2
    fsspec.filesystem("frail").pipe_file("/sirl/live.json", stale)
    server.sync()
    learner.sync()
    assert server.registry.live() == learner.registry.live() == 2, "what is older does not come back"
    ahead = json.loads(stale) | {"history": [{"time": "2999-01-01T00:00:00+00:00"}]}
    fsspec.filesystem("frail").pipe_file("/sirl/live.json", json.dumps(ahead).encode())
    server.sync()
    assert server.registry.live() == 2


def test_a_destroyed_version_is_destroyed_everywhere(learner: Place, server: Place) -> None:
    for _ in range(2):
        learner.publish()
    for version in (1, 2):
        learner.activate(version)
    learner.sync()
    server.sync()
    server.registry.pin(1, actor="test")
    server.sync()
    learner.sync()
    learner.registry.destroy(1, actor="forget", reason="trial")
    learner.sync()
    server.sync()
    assert sorted(name for name in Frail.store if "/v1/" in name) == ["/sirl/v1/forgotten.json", "/sirl/v1/manifest.json"]
    assert sorted(file.name for file in server.registry.path(1).iterdir()) == ["forgotten.json", "manifest.json"]
    assert server.registry.versions()[0].state == "forgotten" and server.registry.manifest(1)["metrics"] == {}
    learner.sync()
    assert learner.registry.pins() == server.registry.pins() == ()
    late = Place(server.state.path.parent / "late")
    late.sync()
    assert late.told() == server.told()


def test_what_serves_here_is_not_destroyed_from_elsewhere(learner: Place, server: Place) -> None:
    for _ in range(2):
        learner.publish()
    learner.activate(2)
    learner.sync()
    server.sync()
    server.activate(1)
    learner.registry.destroy(1, actor="forget", reason="trial")
    learner.sync()
    with pytest.raises(RegistryError, match="v1 was destroyed elsewhere, and serves here"):
        server.sync()
    server.registry.verify(1)
    with pytest.raises(RegistryError, match="is not followed: v1 was destroyed"):
        learner.sync()
    server.activate(2)
    for place in (server, learner, server):
        place.sync()
    assert server.told() == learner.told() and server.registry.versions()[0].state == "forgotten"


def test_collected_weights_go_everywhere_but_where_they_are_needed(tmp_path: Path) -> None:
    learner, server = (Place(tmp_path / name, keep=1) for name in ("learner", "server"))
    for _ in range(4):
        learner.publish()
    learner.activate(4)
    learner.sync()
    server.sync()
    server.registry.pin(2, actor="test")
    assert learner.registry.collect(actor="test") == [1, 2, 3]
    learner.sync()
    server.sync()
    assert [a.state for a in server.registry.versions()] == ["collected", "candidate", "collected", "live"]
    assert not [name for name in Frail.store if name.endswith("safetensors") and "/v4/" not in name]
    late = Place(tmp_path / "late")
    late.sync()
    assert [a.state for a in late.registry.versions()] == ["collected"] * 3 + ["live"]
    assert all(a.decision == "promoted" for a in late.registry.versions())
    server.registry.unpin(2, actor="test")
    server.sync()
    assert server.registry.versions()[1].state == "collected"


def test_numbers_of_the_store_are_counted(learner: Place, server: Place) -> None:
    assert [learner.publish() for _ in range(3)] == [1, 2, 3]
    learner.sync()
    assert server.publish() == 4, "nothing was pulled yet"
    server.sync()
    assert learner.publish() == 5
    shutil.rmtree(learner.registry.path(5))
    learner.sync()
    Frail.left = 0
    assert learner.publish() == 6, "and so they are while the store is away"


def test_a_number_that_was_taken_meanwhile_is_refused_in_a_sentence(learner: Place, server: Place) -> None:
    assert learner.publish() == 1
    Frail.left = 0
    assert server.publish() == 1
    Frail.left = math.inf
    change_manifest(server)
    server.activate(1)
    learner.sync()
    with pytest.raises(RegistryError, match="has another v1 already") as caught:
        server.sync()
    assert one_sentence(caught.value)
    learner.sync()
    assert learner.registry.live() is None, "what the server means by v1 is not what the store has"
    before = json.loads(Frail.store["/sirl/v1/manifest.json"].getvalue())
    assert before == learner.registry.manifest(1)
    shutil.move(server.registry.path(1), server.state.path / "mine")
    server.sync()
    assert server.registry.manifest(1) == before


def change_manifest(place: Place) -> None:
    path = place.registry.path(1) / "manifest.json"
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_fingerprint": "another"}))


def test_versions_of_another_base_are_nobodys_business(tmp_path: Path, learner: Place) -> None:
    learner.publish()
    learner.activate(1)
    learner.sync()
    other = Place(tmp_path / "other", base="sha256:other")
    with pytest.raises(RegistryError, match="is live is not followed: v1 is not here"):
        other.sync()
    assert other.registry.versions() == [] and other.registry.live() is None and other.publish() == 2


def test_what_somebody_removed_from_the_store_stays_removed(learner: Place, server: Place) -> None:
    learner.publish()
    learner.activate(1)
    learner.sync()
    Frail.store.clear()
    learner.sync()
    server.sync()
    assert not Frail.store and server.registry.versions() == []


def test_two_that_had_versions_before_they_shared_recognise_them(learner: Place, tmp_path: Path) -> None:
    learner.publish()
    learner.activate(1)
    learner.sync()
    (learner.registry.path(1).parent / "shared.json").write_text("torn")
    copy = Place(shutil.copytree(learner.state.path, tmp_path / "copy"))
    copy.sync()
    learner.sync()
    assert copy.told() == learner.told()


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda files: files.pipe_file("/sirl/v1/adapter_model.safetensors", b"other"), "was changed since"),
        (lambda files: files.rm("/sirl/v1/adapter_model.safetensors"), "lacks a file, adapter_model"),
        (lambda files: files.pipe_file("/sirl/v1/manifest.json", b'{"version": 1, "ba'), "cut short or damaged"),
        (lambda files: files.pipe_file("/sirl/v1/manifest.json", b"{}"), "is damaged"),
        (lambda files: files.pipe_file("/sirl/v1/evaluation.json", b""), "cut short or damaged"),
        (lambda files: relist(files, "training_args.bin"), "lists training_args.bin, which is no part of an adapter"),
        (lambda files: relist(files, "../../live.json"), "which is no part of an adapter"),
        (lambda files: files.mv("/sirl/v1", "/sirl/v3", recursive=True), "another version's"),
    ],
)
def test_what_is_damaged_in_the_store_is_refused_and_all_else_is_taken(
    learner: Place, server: Place, damage: Callable, wanted: str
) -> None:
    learner.publish()
    learner.publish()
    learner.activate(2)
    learner.sync()
    damage(fsspec.filesystem("frail"))
    with pytest.raises(RegistryError, match=wanted) as caught:
        server.sync()
    assert one_sentence(caught.value)
    server.sound()
    assert [a.version for a in server.registry.versions()] == [2] and server.registry.live() == 2


def relist(files: Frail, name: str) -> None:
    """A manifest that names one file more, which is there."""
    manifest = json.loads(files.cat_file("/sirl/v1/manifest.json"))
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    files.pipe_file("/sirl/v1/manifest.json", json.dumps(manifest).encode())
    files.pipe_file(f"/sirl/v1/{name}", b"x")


def test_a_live_json_that_names_what_is_refused_is_not_followed(learner: Place, server: Place) -> None:
    learner.publish()
    learner.activate(1)
    learner.sync()
    files = fsspec.filesystem("frail")
    weights = files.cat_file("/sirl/v1/adapter_model.safetensors")
    files.pipe_file("/sirl/v1/adapter_model.safetensors", weights[:-1])
    with pytest.raises(RegistryError):
        server.sync()
    assert server.registry.live() is None
    files.pipe_file("/sirl/v1/adapter_model.safetensors", weights)
    server.sync()
    assert server.registry.live() == 1


@pytest.mark.parametrize("manner", ["dies", "cuts"])
def test_whenever_the_store_breaks_both_sides_stay_sound_and_a_retry_succeeds(tmp_path: Path, manner: str) -> None:
    """The first upload and the first download, broken at each of their operations in turn."""
    keys = {"signing_key": private_file(tmp_path / "key.pem", pem(KEY))}
    before = Place(tmp_path / "before", **keys)
    before.publish()
    before.activate(1)
    before.registry.pin(1, actor="test")
    broken = 0
    for n in range(1, 100):
        clear()
        learner = Place(shutil.copytree(before.state.path, tmp_path / f"learner{n}"), **keys)
        server = Place(tmp_path / f"server{n}", **keys)
        Frail.left, Frail.manner = n, manner
        for place in (learner, server):
            try:
                place.sync()
            except SirlError as error:
                assert one_sentence(error)
                broken += 1
            learner.sound()
            server.sound()
        reached, Frail.left = Frail.left, math.inf
        if reached > 0:
            break
        for place in (server, learner, server):  # what it gets before the learner's retry is whole as well
            try:
                place.sync()
            except RegistryError as error:
                assert place is server and one_sentence(error)
            place.sound()
        assert server.told() == learner.told() and server.registry.live() == 1 and server.registry.pins() == (1,)
        assert before.told() == learner.told()
    else:
        raise AssertionError("it never came through")
    assert n > 15 and broken >= n - 3, "but for listings, which nothing cuts"


KEYS = ("version", "base", "files", "metrics", "stack", "history", "revision", "time", "pins", "decision")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=4)
    ),
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)


@hypothesis(max_examples=30, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["live.json", "pins.json", "v1/manifest.json", "v1/evaluation.json", "v1/collected.json"]),
    st.binary(max_size=20) | (JSON | OBJECTS).map(lambda found: json.dumps(found).encode()) | st.just(b"[" * 100_000),
)
def test_whatever_lies_in_the_store_is_taken_whole_or_refused_in_a_sentence(name: str, content: bytes) -> None:
    clear()
    with tempfile.TemporaryDirectory() as folder:
        learner, server = Place(Path(folder) / "learner"), Place(Path(folder) / "server")
        learner.publish()
        learner.activate(1)
        learner.registry.pin(1, actor="test")
        learner.sync()
        fsspec.filesystem("frail").pipe_file(f"/sirl/{name}", content)
        for place in (server, learner):
            try:
                place.sync()
            except RegistryError as error:
                assert one_sentence(error)
            place.sound()
            place.registry.pins()
        learner.registry.verify(1)


ACTS = st.sampled_from(["publish", "activate", "base", "rollback", "pin", "unpin", "calibrate", "sync", "sync"])


@hypothesis(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(ACTS, st.booleans(), st.integers(1, 12)), max_size=14), st.sampled_from(["dies", "cuts"]))
def test_whatever_both_do_and_whenever_it_breaks_they_come_to_agree(acts: list, manner: str) -> None:
    clear()
    with tempfile.TemporaryDirectory() as folder:
        learner, server = Place(Path(folder) / "learner"), Place(Path(folder) / "server")
        for act, by_server, number in acts:
            place = server if by_server and act not in ("publish", "calibrate") else learner
            do(place, act, number, manner)
            learner.sound()
            server.sound()
        Frail.left = math.inf
        for place in (learner, server, learner, server):
            place.share.attempt()
        for place in (learner, server):
            place.sync()
        assert learner.told() == server.told() and learner.registry.pins() == server.registry.pins()


def do(place: Place, act: str, number: int, manner: str) -> None:
    """One act; a sync breaks at its `number`-th operation."""
    Frail.left, Frail.manner = math.inf, manner
    versions = place.registry.numbers()
    version = versions[number % len(versions)] if versions else None
    try:
        match act:
            case "publish":
                place.publish()
            case "sync":
                Frail.left = number
                place.sync()
            case "base":
                place.activate(None)
            case "rollback":
                place.registry.rollback(actor="test", reason="trial")
            case _ if version is None:
                pass
            case "activate":
                place.activate(version)
            case "calibrate":
                place.registry.attach(version, "calibration", {"made": number})
            case "pin":
                place.registry.pin(version, actor="test")
            case "unpin":
                place.registry.unpin(version, actor="test")
    except (RegistryError, ObjectStoreError) as error:
        assert one_sentence(error)


def test_servers_that_trust_a_key_take_nothing_else(tmp_path: Path) -> None:
    key = private_file(tmp_path / "key.pem", pem(KEY))
    trusted = private_file(tmp_path / "trusted.pem", public(KEY))
    learner, stranger = Place(tmp_path / "learner", signing_key=key), Place(tmp_path / "stranger")
    server = Place(tmp_path / "server", trusted_keys=trusted)
    learner.publish()
    learner.sync()
    stranger.sync()
    stranger.publish()
    stranger.registry.activate(2, actor="mallory", reason="mine")
    stranger.sync()
    with pytest.raises(RegistryError, match=r"manifest\.json is not signed"):
        server.sync()
    assert [a.version for a in server.registry.versions()] == [1] and server.registry.live() is None


def test_what_the_store_says_is_live_must_have_been_promoted_where_there_are_keys(tmp_path: Path) -> None:
    key = private_file(tmp_path / "key.pem", pem(KEY))
    trusted = private_file(tmp_path / "trusted.pem", public(KEY))
    learner, server = Place(tmp_path / "learner", signing_key=key), Place(tmp_path / "server", trusted_keys=trusted)
    learner.publish("rejected")
    learner.registry.activate(1, actor="test", reason="trial", force=True)
    learner.sync()
    with pytest.raises(RegistryError, match="is not followed: v1 was rejected by its gate"):
        server.sync()
    assert server.registry.live() is None
    server.registry.activate(1, actor="test", reason="trial", force=True)
    assert server.registry.live() == 1


def test_a_signature_made_later_follows(tmp_path: Path) -> None:
    learner = Place(tmp_path / "learner")
    learner.publish()
    learner.sync()
    server = Place(tmp_path / "server", trusted_keys=private_file(tmp_path / "trusted.pem", public(KEY)))
    with pytest.raises(RegistryError, match="is not signed"):
        server.sync()
    signing = Place(tmp_path / "learner", signing_key=private_file(tmp_path / "key.pem", pem(KEY)))
    signing.registry.sign(1)
    signing.sync()
    server.sync()
    server.registry.verify(1)


def test_a_process_that_ends_waits_for_one_operation_at_most(learner: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    learner.publish()
    find = Frail.find

    def ending(self, path, **kwargs):
        learner.share.close()
        return find(self, path, **kwargs)

    monkeypatch.setattr(Frail, "find", ending)
    with pytest.raises(ObjectStoreError, match="is not asked any more"):
        learner.sync()
    assert not Frail.store


def test_what_hinders_is_said_and_nothing_stops(learner: Place, caplog: pytest.LogCaptureFixture) -> None:
    Frail.left = 0
    trouble = learner.share.attempt()
    assert trouble and "The store cannot be used (ConnectionResetError: the line is dead)" in trouble
    synchronise(learner.state, learner.registry)
    assert trouble in caplog.text
    Frail.left = math.inf
    assert learner.share.attempt() is None
