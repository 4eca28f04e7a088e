"""Weights of a GGUF file against transformers' own reading of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from online.fetch import weights
from online.fetch.catalogue import FetchError, Published
from tests.online.fetch import tiny_gguf

IDS = torch.arange(40)[None]


def converted(gguf: Path, entry: Published, folder: Path) -> Path:
    folder.mkdir()
    reader = weights.read(gguf)
    weights.write_configuration(reader, entry, folder)
    weights.write_weights(reader, folder / "model.safetensors")
    return folder


@torch.no_grad()
def test_logits_are_those_of_the_file(gguf: Path, entry: Published, tmp_path: Path) -> None:
    folder = converted(gguf, entry, tmp_path / "ours")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    for parameter in theirs.parameters():
        parameter.copy_(parameter.bfloat16())
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-5, atol=1e-4)
    before = tiny_gguf.tiny()(IDS).logits  # 8 bits round a little, and a mistake in a name or a shape more
    assert (ours(IDS).logits - before).abs().mean() < 0.05 * before.std()


def test_the_head_is_tied_and_the_finer_of_the_two(entry: Published, tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "two.gguf", embedding=GGMLQuantizationType.Q5_0)
    folder = converted(tmp_path / "two.gguf", entry, tmp_path / "ours")
    stored = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in stored and json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    eight = GGMLQuantizationType.Q8_0
    head = dequantize(quantize(tiny_gguf.tiny().lm_head.weight.detach().numpy(), eight), eight)
    assert torch.equal(stored["model.embed_tokens.weight"], torch.from_numpy(head).bfloat16())
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_generation_knows_every_end(gguf: Path, entry: Published, tmp_path: Path) -> None:
    folder = converted(gguf, entry, tmp_path / "ours")
    generation = json.loads((folder / "generation_config.json").read_text())
    end, pad = (tiny_gguf.TOKENS.index(text) for text in ("<|im_end|>", "<|endoftext|>"))
    assert generation["eos_token_id"] == [end, pad] and generation["pad_token_id"] == pad
    assert (generation["temperature"], generation["top_p"]) == (0.7, 0.8)


def test_rounding_is_to_the_nearest_and_of_two_to_the_even() -> None:
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, 3.0e38, 1e-40], np.float32)
    drawn = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    for values in (halves, drawn):
        theirs = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
        np.testing.assert_array_equal(weights.rounded(values), theirs)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no model at all, and longer than a header")
    with pytest.raises(FetchError, match="is not a GGUF file"):
        weights.read(tmp_path / "text")
    writer = GGUFWriter(tmp_path / "other", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(FetchError, match="architecture llama"):
        weights.read(tmp_path / "other")
