"""The harm senses of all adapters on the worker's device, and what they read around the ends of prompts.

The last token of a prompt is computed for every request. The last one of its user's words may have been computed in the step
before, for a prompt is read in parts, or for another request that had the same prompt, whose cached blocks are taken. So
what was read there is kept by prompt: whatever lies in a cached block was computed in this engine, and read.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guard.sense import Sense
from serving.engine.packing import sent

KEPT = 131_072
"""Readings that are kept, the latest."""
ABSENT = 0
"""Where a reading is that is not kept."""


class Part(NamedTuple):
    """What a step computes of a prompt: its request's place in the batch, its LoRA id, the row of tokens at which it begins,
    how many of the prompt's tokens were computed before and are now, the whole prompt, and what else it is made of (images),
    by identity."""

    row: int
    adapter: int
    begins: int
    before: int
    count: int
    prompt: NDArray[np.int32]
    beside: Hashable = ()

    @property
    def ends(self) -> bool:
        """Whether the prompt ends in this step."""
        return self.before + self.count == len(self.prompt)


class Known(NamedTuple):
    """A sense that was set: its number among all, and its weights [places, layers, hidden] float32 on the device."""

    number: int
    sense: Sense
    weights: torch.Tensor


class Senses:
    """The sense of each LoRA id (0 is the base), and the latest readings."""

    def __init__(self, device: torch.device, kept: int = KEPT) -> None:
        self.device = device
        self.known: dict[int, Known] = {}
        self.told = 0
        """Senses that were set so far."""
        self.kept = torch.full((kept + 1,), torch.nan, device=device)
        """Readings before the ends of prompts; the first is none."""
        self.at: OrderedDict[tuple[int, int, bytes], int] = OrderedDict()
        """(number of the sense, place, digest of the prompt) -> where its reading is kept."""

    def set(self, adapter: int, sense: Sense | None) -> None:
        """Set, or with None forget, the sense of a LoRA id."""
        self.known.pop(adapter, None)
        if sense is not None:
            self.told += 1
            self.known[adapter] = Known(self.told, sense, torch.tensor(sense.weights, device=self.device))

    def read(self, stream: Mapping[int, torch.Tensor], parts: Sequence[Part]) -> tuple[list[int], torch.Tensor]:
        """The stream after each layer ([tokens, hidden] each) and the prompts' parts in it -> (places in the batch of those
        whose prompts end here, their log-odds of harm, float32, NaN where none was read: the adapter has no sense, a layer
        is missing, a state is no number, or a cached token's reading is not kept any more).

        The products are taken on the device, element by element in float32: a matrix product may be rounded there (TF32).
        Under tensor parallelism the stream is whole on every rank, so each reads the same, and the first one's is sent.
        """
        ending = [part for part in parts if part.ends]
        found = torch.full((len(ending),), torch.nan, device=self.device)
        for adapter, (number, sense, weights) in self.known.items():
            if any(layer not in stream or stream[layer].shape[-1] != sense.hidden for layer in sense.layers):
                continue
            computed = list(self.computed([part for part in parts if part.adapter == adapter], number, sense))
            if computed:
                rows, places, slots = (sent(column, self.device) for column in zip(*computed, strict=True))
                products = [
                    stream[layer][rows].float().mul(weights[places, i]).sum(-1) for i, layer in enumerate(sense.layers)
                ]
                self.kept.index_copy_(0, slots, torch.stack(products).sum(0))
            if mine := [at for at, part in enumerate(ending) if part.adapter == adapter]:
                where = [
                    self.where((number, place, digest(ending[at]))) for at in mine for place in range(len(sense.places))
                ]
                read = self.kept[sent(where, self.device)].reshape(len(mine), -1).sum(1) + sense.bias
                found.index_copy_(0, sent(mine, self.device), read)
        return [part.row for part in ending], torch.where(found.isfinite(), found, torch.nan)

    def computed(self, parts: Sequence[Part], number: int, sense: Sense) -> Iterator[tuple[int, int, int]]:
        """Of each place that is computed in this step: its row of tokens, which place it is, and where its reading is to be
        kept. A prompt that is computed anew, because its request was preempted, is read anew."""
        for part in parts:
            for place, back in enumerate(sense.back(part.prompt)):
                at = len(part.prompt) - 1 - back - part.before
                if 0 <= at < part.count:
                    yield part.begins + at, place, self.room((number, place, digest(part)))

    def room(self, key: tuple[int, int, bytes]) -> int:
        """Where a reading is to be kept: where it was, or else in the oldest one's place."""
        slot = self.at.pop(key, None)
        if slot is None:
            slot = len(self.at) + 1 if len(self.at) + 1 < len(self.kept) else self.at.popitem(last=False)[1]
        self.at[key] = slot
        return slot

    def where(self, key: tuple[int, int, bytes]) -> int:
        """Where a reading is kept; ABSENT where it is not. A prompt that is asked again stays, as its blocks do."""
        if key in self.at:
            self.at.move_to_end(key)
        return self.at.get(key, ABSENT)


def digest(part: Part) -> bytes:
    """The same of prompts that have the same stream alone."""
    found = hashlib.blake2b(part.prompt.tobytes(), digest_size=16)
    found.update(repr(part.beside).encode())
    return found.digest()


def beside(request: Any) -> Hashable:
    """What else than tokens a request's prompt is made of: its images by their identity. What came as embeddings is told
    from nothing else."""
    if request.prompt_embeds is not None:
        return request.req_id
    return tuple(feature.identifier for feature in request.mm_features)
