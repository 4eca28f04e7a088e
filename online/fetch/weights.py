"""The weights of a GGUF file of Qwen2's architecture, dequantised, with the configuration that goes with them.

They are written in bfloat16, in which the models were published before they were quantised. Its rounding, a 256th at most,
is small beside the steps of four bits. CPUs with bfloat16 products are two to four times faster in it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import GenerationConfig, Qwen2Config

from online.fetch.catalogue import FetchError, Published

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a layer's parts, and transformers'."""


def read(gguf: Path) -> GGUFReader:
    """The file, mapped into memory. Raises FetchError for one that is none or of another architecture."""
    try:
        reader = GGUFReader(gguf)
    except (ValueError, OSError) as error:
        raise FetchError(f"{gguf} is not a GGUF file ({error}): fetch again.") from error
    if (found := field(reader, "general.architecture")) != "qwen2":
        raise FetchError(f"{gguf} holds a model of the architecture {found}: only qwen2 can be converted.")
    return reader


def field(reader: GGUFReader, name: str) -> Any:
    """A value of the file's header; None where it has none of this name."""
    found = reader.get_field(name)
    return None if found is None else found.contents()


def write_weights(reader: GGUFReader, file: Path, *, bar: type[tqdm] = tqdm) -> None:
    """All tensors as safetensors, one at a time: memory holds the largest. The head is tied to the embedding. Where the GGUF
    file has both, in steps of their own, the head is kept: it is the finer one."""
    tensors = dict(_named(reader.tensors))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        shape = [int(size) for size in reversed(tensor.shape)]
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out, bar(total=end, unit="B", unit_scale=True, desc="dequantise") as shown:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            values = rounded(dequantize(tensor.data, tensor.tensor_type))
            out.write(values.data)
            shown.update(values.nbytes)


def rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16 of each finite number, of two that are as near the even one."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    found: NDArray[np.uint16] = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2")
    return found


def _named(tensors: list[ReaderTensor]) -> Iterator[tuple[str, ReaderTensor]]:
    """Tensors by transformers' names."""
    by_name = {tensor.name: tensor for tensor in tensors}
    yield "model.embed_tokens.weight", by_name.get("output.weight", by_name["token_embd.weight"])
    for name, tensor in by_name.items():
        if name.startswith("blk."):
            _, layer, part, kind = name.split(".")
            yield f"model.layers.{layer}.{_LAYER[part]}.{kind}", tensor
    yield "model.norm.weight", by_name["output_norm.weight"]


def write_configuration(reader: GGUFReader, published: Published, folder: Path) -> None:
    """`config.json`, and `generation_config.json` with every end token."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    ends = [tokens.index(end) for end in published.ends]
    pad = tokens.index(published.pad)

    def value(name: str) -> Any:
        return field(reader, f"qwen2.{name}")

    Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        dtype="bfloat16",
        vocab_size=len(tokens),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"),
        rms_norm_eps=float(f"{value('attention.layer_norm_rms_epsilon'):.6g}"),  # kept in single precision
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
        tie_word_embeddings=True,
        bos_token_id=pad,
        eos_token_id=ends[0],
    ).save_pretrained(folder)
    GenerationConfig(
        bos_token_id=pad, pad_token_id=pad, eos_token_id=ends, do_sample=True, **published.sampling
    ).save_pretrained(folder)
