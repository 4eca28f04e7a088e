"""Sizes: what a run on a GPU measures, and the small run of the same on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.shapes import SHAPES, VOCABULARY

QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}
"""Qwen2.5-7B's architecture."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """device: as torch names it; bytes: of the buffer that logits are read from, over any cache; columns, rows, calls: of
    the probe; prompts, steps: of the parity cells; shapes: of the learner's models, by name; lengths: of their prompts in
    tokens; update: settings of their steps; scored, answered: prompts whose masses and whose answers are timed."""

    device: str
    bytes: int
    columns: int
    rows: tuple[int, ...]
    calls: int
    prompts: int
    steps: int
    shapes: Mapping[str, Mapping[str, Any]]
    lengths: tuple[int, ...]
    update: Mapping[str, Any]
    scored: int
    answered: int


FULL = Sizes(
    device="cuda",
    bytes=1 << 30,
    columns=VOCABULARY,
    rows=(1, 16, 64, 256, 1024),
    calls=50,
    prompts=400,
    steps=5,
    shapes={
        "0.5B": SHAPES["realistic"] | {"vocab_size": VOCABULARY, "tie_word_embeddings": True},
        "7B": QWEN_7B,
    },
    lengths=(256, 1024),
    update={},
    scored=48,
    answered=512,
)
DRY = Sizes(
    device="cpu",
    bytes=1 << 20,
    columns=5000,
    rows=(1, 4),
    calls=3,
    prompts=100,
    steps=2,
    shapes={"tiny": SHAPES["toy"] | {"hidden_size": 32, "vocab_size": 1000, "tie_word_embeddings": True}},
    lengths=(16,),
    update={"contested_per_step": 2, "screened_per_step": 12, "group_size": 2, "max_tokens": 4},
    scored=4,
    answered=4,
)
