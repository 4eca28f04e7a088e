"""Chunked logits: quantities of response tokens, computed without holding all logits of a long response.

A response of 3,000 tokens over 150,000 words is 1.8 GB of fp32 logits, several times that with a graph. What is kept instead
are the hidden states they are read from; logits exist for some tokens at a time, and again when a gradient comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LOGITS = 1 << 23
"""Logits in memory at one time (32 MiB in fp32); with no more than that in all, nothing is computed twice."""


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits of (batch, T) tokens as what they are read from: states (batch, T, hidden), a head, and its width."""

    states: Tensor
    head: Callable[[Tensor], Tensor]
    vocabulary: int

    def whole(self) -> Tensor:
        """All of them, (batch, T, vocabulary), in fp32."""
        return self.head(self.states).float()


def per_token(measure: Callable[..., Tensor], logits: Logits, *others: Logits | Tensor) -> Tensor:
    """measure(logits, *others) at every token, shape (batch, T, ...), some tokens at a time.

    `measure` takes rows: logits as (rows, vocabulary) in fp32 and tensors of (batch, T, ...) as (rows, ...); it gives
    (rows, ...).
    """
    inputs = (logits, *others)
    heads = [one.head if isinstance(one, Logits) else None for one in inputs]
    flat = [(one.states if isinstance(one, Logits) else one).flatten(0, 1) for one in inputs]

    def read(*rows: Tensor) -> Tensor:
        return measure(*(part if head is None else head(part).float() for part, head in zip(rows, heads, strict=True)))

    size = max(1, LOGITS // logits.vocabulary)
    if len(flat[0]) <= size:
        found = read(*flat)
    else:
        pieces = zip(*(torch.split(one, size) for one in flat), strict=True)
        found = torch.cat([checkpoint(read, *rows, use_reentrant=False, preserve_rng_state=False) for rows in pieces])
    return found.view(*logits.states.shape[:2], *found.shape[1:])
