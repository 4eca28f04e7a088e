"""Rows of tokens: padding, positions, and the one way a token is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(sequences: Sequence[Sequence[int]], device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    """(ids, mask) of shape (batch, longest), mask 1 where a token is real."""
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        span = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, span] = torch.tensor(sequence, dtype=torch.long)
        mask[row, span] = 1
    return ids.to(device), mask.to(device)


def positions(mask: Tensor) -> Tensor:
    """Position of each token among its row's real ones."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def pick(values: Tensor, places: Tensor) -> Tensor:
    """values[:, places] by gather, whose gradient is summed in a fixed order: (batch, *places.shape)."""
    return values.gather(1, places.flatten().expand(len(values), -1)).view(-1, *places.shape)


def draw(logits: Tensor, luck: Tensor, temperature: float) -> Tensor:
    """One token a row, by inverting the cumulative distribution at `luck`; the likeliest at temperature 0."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.double() / temperature).softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(cumulative, luck[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[-1] - 1)
