"""The token budget: how many tokens of prompts and responses one batch may hold, by the memory there is.

What a token takes is told by the model's shape: what autograd keeps of it where a gradient is to come back, what one layer
makes of it where none is, its keys and values while a response is drawn, and its logits, as wide as the vocabulary.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import PretrainedConfig

MOST = {"cpu": 8192, "cuda": 65536}
"""Tokens of one pass at most: more is no faster, and padding costs more."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit is written (control groups, versions 2 and 1)."""
_MMAP_THRESHOLD = -3
"""glibc's name for `mallopt` of the size from which on an allocation is a mapping of its own."""
_FLOAT = 4
"""Bytes of a number that autograd keeps: adapters and normalisation compute in fp32, whatever the base is in."""


@dataclass(frozen=True, slots=True)
class Room:
    """What one batch may hold. tokens: of all rows, their padding counted; logits: as how many tokens the logits of one
    count, where all of the vocabulary's are held at once."""

    tokens: int
    logits: int

    def batches(self, rows: Sequence[tuple[int, ...]], beside: int = 0) -> list[list[int]]:
        """Indices of rows, sorted by length, in batches of rows x width <= tokens; a row that is longer is alone.

        A row is the lengths of its parts (prompt, response), each padded to the longest of its batch; `beside`: further
        tokens of every row.
        """
        found: list[list[int]] = []
        widest: tuple[int, ...] = ()
        for index in sorted(range(len(rows)), key=lambda i: (sum(rows[i]), rows[i], i)):
            wider = tuple(map(max, widest, rows[index])) if found else rows[index]
            if found and (len(found[-1]) + 1) * (sum(wider) + beside) <= self.tokens:
                found[-1].append(index)
                widest = wider
            else:
                found.append([index])
                widest = rows[index]
        return found


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """Room for passes that a gradient comes back through, for those without, and for what is cached of responses while they
    are drawn."""

    graph: Room
    passing: Room
    cached: Room

    @classmethod
    def of(cls, config: PretrainedConfig, memory: int, *, cached: int, recompute: bool, most: int) -> Self:
        """Of a model's configuration and bytes of memory; cached: bytes of a number in its cache; recompute: whether its
        layers are computed again on the way back; most: tokens of a pass at most."""
        text = config.get_text_config()
        layers, hidden = text.num_hidden_layers, text.hidden_size
        heads = getattr(text, "num_attention_heads", None) or 1  # a model without attention is loaded too, and refused later
        wide = getattr(text, "head_dim", None) or hidden // heads
        values = (getattr(text, "num_key_value_heads", None) or heads) * wide
        block = _FLOAT * (6 * hidden + 5 * heads * wide + 2 * values + 5 * _intermediate(text))
        graph = (layers + 1) * _FLOAT * hidden + block if recompute else layers * block
        logits = _FLOAT * text.vocab_size

        def room(each: int, of_logits: int, most: int) -> Room:
            return Room(max(1, min(most, memory // each)), -(-of_logits // each))

        return cls(
            room(graph, 4 * logits, most),  # logits, what their softmax keeps, and two gradients
            room(block, 3 * logits, most),
            room(2 * layers * values * cached, 5 * logits, 8 * most),  # logits, their exponentials, and blocks of them
        )

    def now(self) -> Room:
        """With a gradient or without, as torch is set."""
        return self.graph if torch.is_grad_enabled() else self.passing


def _intermediate(text: PretrainedConfig) -> int:
    """Width of what a token passes through in a layer's feed-forward part: of all its experts together in a mixture."""
    experts = int(getattr(text, "num_experts_per_tok", None) or 0)
    if not experts:
        return int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    each = int(getattr(text, "moe_intermediate_size", None) or text.intermediate_size)
    return each * experts + int(getattr(text, "shared_expert_intermediate_size", None) or 0)


def memory_for(device: torch.device, gib: float | None = None, *, spoken_for: int = 0) -> int:
    """Bytes that one batch may take beside the weights: as given, or else an eighth of the machine's memory, or of its
    container's, and half of what is free on a GPU and not spoken for (bytes); a power of two, so that a run that goes on
    finds the same."""
    if gib is not None:
        return int(gib * 2**30)
    if device.type == "cuda":
        there = max(0, torch.cuda.mem_get_info(device)[0] - spoken_for) // 2
    else:
        there = _machine() // 8
    return 1 << max(28, there.bit_length() - 1)


def return_freed() -> None:
    """From here on this process gives freed tensors of a MiB and more back to the system at once, where malloc is glibc's.

    Its heap hardly finds room for aligned tensors between small ones that stay, such as gradients: the graph of a second
    batch then comes beside the freed one of the first (1.6 GB in place of 1.0 GB in a small try, at the same pace).
    """
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)
    except (OSError, AttributeError, TypeError):  # another C library, with an allocator of its own
        return


def _machine() -> int:
    """Bytes of memory of this machine, or of the container that this process is in."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _LIMITS:
        try:
            return min(most, int(Path(path).read_text("utf-8")))
        except (OSError, ValueError):  # none there, or "max"
            continue
    return most
