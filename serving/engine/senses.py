"""The harm senses of all adapters on the worker's device, and what they read where prompts end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from serving.engine.packing import sent


class PromptEnd(NamedTuple):
    """A prompt whose last token is in this step: its request's place in the batch, its LoRA id, its row of tokens."""

    row: int
    adapter: int
    token: int


class Senses:
    """By LoRA id (0 is the base): layers, weights [layers, hidden] float32 on `device`, and the bias."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[int, tuple[tuple[int, ...], torch.Tensor, float]] = {}

    def set(self, adapter: int, sense: Mapping[str, Any] | None) -> None:
        """Set, or with None forget, the sense of a LoRA id: its layers, weights and bias."""
        if sense is None:
            self.known.pop(adapter, None)
        else:
            weights = torch.tensor(sense["weights"], dtype=torch.float32, device=self.device)
            self.known[adapter] = tuple(sense["layers"]), weights, sense["bias"]

    def read(self, stream: Mapping[int, torch.Tensor], ends: Sequence[PromptEnd]) -> torch.Tensor:
        """The stream after each layer ([tokens, hidden] each) -> [prompts] float32 log-odds of harm, NaN where none was
        read: the adapter has no sense, a layer is missing, or a state is no number.

        The products are taken on the device, element by element in float32: a matrix product may be rounded there (TF32).
        Under tensor parallelism the stream is whole on every rank, so each reads the same, and the first one's is sent.
        """
        read = torch.full((len(ends),), torch.nan, device=self.device)
        groups: dict[int, list[int]] = defaultdict(list)
        for number, end in enumerate(ends):
            groups[end.adapter].append(number)
        for adapter, numbers in groups.items():
            layers, weights, bias = self.known.get(adapter, ((), None, 0.0))
            if weights is None or any(
                layer not in stream or stream[layer].shape[-1] != weights.shape[-1] for layer in layers
            ):
                continue
            tokens = sent([ends[number].token for number in numbers], self.device)
            products = [stream[layer][tokens].float().mul(row).sum(-1) for layer, row in zip(layers, weights, strict=True)]
            read.index_copy_(0, sent(numbers, self.device), torch.stack(products).sum(0) + bias)
        return torch.where(read.isfinite(), read, torch.nan)
