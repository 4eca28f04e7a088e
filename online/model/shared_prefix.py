"""The shared prefix: what all prompts of a batch begin with, such as a chat template's first words, passed once for all.

Its keys and values do not depend on what follows, so rows share them, gradients included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from online.model.token_rows import padded, positions

WORTH = {"cpu": 2e10, "cuda": 1e13}
"""Tokens to be saved times the model's parameters from which on a pass more pays: a small one costs its launches, whatever
it holds. That is 40 tokens of a model of half a billion on CPUs, and 20,000 on a GPU."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Prompts of a batch. ids: the rest of each behind what is shared, left-padded, (batch, width); mask: 1 where a token is
    real, (batch, shared + width); cache: keys and values of the shared part; None where nothing is shared."""

    ids: Tensor
    mask: Tensor
    cache: DynamicCache | None = None

    @property
    def shared(self) -> int:
        return self.mask.shape[1] - self.ids.shape[1]

    def places(self, mask: Tensor | None = None) -> Tensor:
        """Position of each column behind the shared part, of a mask that may go on after the prompts."""
        return positions(self.mask if mask is None else mask)[:, self.shared :]


def shared_length(prompts: Sequence[Sequence[int]], device: torch.device, size: int, rest: int = 1) -> int:
    """Tokens that all prompts begin with, `rest` of each left over; 0 where they are not worth a pass of their own through a
    model of so many parameters."""
    first, worth = prompts[0], max(1, WORTH.get(device.type, WORTH["cuda"]) / size)
    most = min(map(len, prompts)) - rest
    if most * (len(prompts) - 1) < worth:  # however alike they are
        return 0
    found = sum(1 for _ in takewhile(lambda at: all(prompt[at] == first[at] for prompt in prompts), range(most)))
    return found if found * (len(prompts) - 1) >= worth else 0


def can_share(config: PreTrainedConfig) -> bool:
    """Whether all that a model's layers keep of a prefix is keys and values."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def lay_out(
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    size: int,
    fill: Callable[[Tensor, Tensor, Tensor], DynamicCache] | None,
    rest: int = 1,
) -> LaidOut:
    """size: the model's parameters; fill(ids, mask, positions): its cache after a pass over these, (1, shared) each; None:
    nothing is shared; rest: tokens at the end of each prompt that are not shared, whatever they are."""
    shared = 0 if fill is None else shared_length(prompts, device, size, rest)
    ids, mask = padded([prompt[shared:] for prompt in prompts], device, left=True)
    if fill is None or not shared:
        return LaidOut(ids, mask)
    first, ones = padded([prompts[0][:shared]], device, left=True)
    cache = fill(first, ones, positions(ones))
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        layer.keys, layer.values = (kept.expand(len(prompts), -1, -1, -1) for kept in (layer.keys, layer.values))
    return LaidOut(ids, torch.cat([ones.expand(len(prompts), -1), mask], 1), cache)
