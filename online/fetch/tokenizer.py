"""The tokenizer of a GGUF file of Qwen2's architecture, in the form in which its authors publish it."""

from __future__ import annotations

import json
from pathlib import Path

from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from online.fetch.catalogue import FetchError, Published
from online.fetch.weights import field

CODE = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
"""Tokens for editing code. Their authors publish them as text; GGUF marks whatever looks special."""


def write_tokenizer(reader: GGUFReader, published: Published, folder: Path) -> None:
    """`tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`. Raises FetchError where the file has none."""
    tokens, kinds = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    merges, template = field(reader, "tokenizer.ggml.merges"), field(reader, "tokenizer.chat_template")
    if not tokens or template is None:
        raise FetchError(f"The GGUF file of {published.name} has no tokenizer with a chat template: fetch another.")
    words = {text: number for number, (text, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind == TokenType.NORMAL}
    tokenizer = Tokenizer(BPE(vocab=words, merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.normalizer = normalizers.NFC()
    bytewise = {"add_prefix_space": False, "use_regex": False, "trim_offsets": False}
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**bytewise)])
    tokenizer.decoder, tokenizer.post_processor = decoders.ByteLevel(), processors.ByteLevel(**bytewise)
    added = {}
    for number, (text, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED):
            special = kind == TokenType.CONTROL and text not in CODE
            tokenizer.add_tokens([AddedToken(text, special=special, normalized=False)])
            if tokenizer.token_to_id(text) != number:
                raise FetchError(f"The token {text} of {published.name} is not in its place: fetch another GGUF file.")
            added[str(number)] = {"content": text, "lstrip": False, "normalized": False, "rstrip": False,
                                  "single_word": False, "special": special}  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    special = [token["content"] for token in added.values() if token["special"] and token["content"] != published.pad]
    configuration = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": special,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": published.ends[0],
        "errors": "replace",
        "model_max_length": field(reader, "qwen2.context_length"),
        "pad_token": published.pad,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "chat_template.jinja").write_text(template, "utf-8")
