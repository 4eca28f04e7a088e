"""The tokenizer of a GGUF file: ids, special tokens and template."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from online.fetch import tokenizer, weights
from online.fetch.catalogue import FetchError, Published
from tests.online.fetch import tiny_gguf
from tests.online.fetch.tiny_gguf import TOKENS


@pytest.fixture
def read(gguf: Path, entry: Published, tmp_path: Path) -> PreTrainedTokenizerBase:
    reader = weights.read(gguf)
    weights.write_configuration(reader, entry, tmp_path)
    tokenizer.write_tokenizer(reader, entry, tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def test_ids_are_those_of_the_file(read: PreTrainedTokenizerBase) -> None:
    assert read("hello he")["input_ids"] == [TOKENS.index(token) for token in ("hello", "Ġ", "he")]
    assert {token: read.convert_tokens_to_ids(token) for token in tiny_gguf.ADDED} == {
        token: TOKENS.index(token) for token in tiny_gguf.ADDED
    }
    assert len(read) == len(TOKENS) - len(tiny_gguf.UNUSED)


def test_a_text_comes_back(read: PreTrainedTokenizerBase) -> None:
    text = "I'm 1234 naïve:\n\n  def f(x):\r\n\treturn 'é'  "
    assert read.decode(read(text)["input_ids"]) == text


def test_special_tokens_are_those_of_a_conversation(read: PreTrainedTokenizerBase) -> None:
    assert (read.eos_token, read.pad_token, read.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    every = [TOKENS.index(token) for token in tiny_gguf.ADDED]
    assert read.decode(every, skip_special_tokens=True) == "<tool_call><|fim_prefix|>"


def test_a_conversation_is_rendered_by_its_template(read: PreTrainedTokenizerBase) -> None:
    ids = read.apply_chat_template([{"role": "user", "content": "hello"}], add_generation_prompt=True, return_dict=False)
    assert ids[0] == TOKENS.index("<|im_start|>") and ids.count(TOKENS.index("<|im_end|>")) == 1
    assert read.decode(ids) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_a_file_without_a_template_is_refused(entry: Published, tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "bare.gguf", template=None)
    with pytest.raises(FetchError, match="no tokenizer with a chat template"):
        tokenizer.write_tokenizer(weights.read(tmp_path / "bare.gguf"), entry, tmp_path)
