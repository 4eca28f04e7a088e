"""Added tokens are those that the tokenizer itself calls so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import models
from online.model.added_tokens import added_tokens


def test_they_are_the_tokenizers_own(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models.bundled())
    assert added_tokens(models.bundled()) == set(tokenizer.get_added_vocab().values())
    tokenizer.save_pretrained(tmp_path)
    assert added_tokens(tmp_path) == set(tokenizer.get_added_vocab().values()) != set()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_either_file_names_them(tmp_path: Path, name: str) -> None:
    named = {"added_tokens": [{"id": 7, "content": "<a>"}], "added_tokens_decoder": {"7": {"content": "<a>"}}}
    key = "added_tokens" if name == "tokenizer.json" else "added_tokens_decoder"
    (tmp_path / name).write_text(json.dumps({key: named[key]}))
    assert added_tokens(tmp_path) == {7}
    (tmp_path / name).write_text("no JSON")
    assert added_tokens(tmp_path) == frozenset()
