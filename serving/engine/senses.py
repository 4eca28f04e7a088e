"""The harm senses of all adapters on the worker's device, and what they read around the ends of prompts.

The last token of a prompt is computed for every request. The last one of its user's words lies a few before it, and is
computed too, for the scheduler takes no cached block that holds it (`serving.engine.scheduler`). A prompt is read in parts,
so what was read of it is kept until it ends.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guard.sense import Sense
from serving.engine.packing import sent

BEGUN = 4096
"""Prompts of which readings are kept at most: more than an engine reads at a time. A request that is aborted leaves its
own."""


class Part(NamedTuple):
    """What a step computes of a prompt: its request's place in the batch, what the request is told from others by, its LoRA
    id, the row of tokens at which it begins, how many of the prompt's tokens were computed before and are now, how many it
    has, and which; none of a prompt that came as embeddings, whose words nobody knows."""

    row: int
    request: Hashable
    adapter: int
    begins: int
    before: int
    count: int
    length: int
    prompt: NDArray[np.int32]

    @property
    def ends(self) -> bool:
        """Whether the prompt ends in this step."""
        return self.before + self.count == self.length

    def places(self, sense: Sense) -> Iterator[tuple[int, int]]:
        """Of each place of the sense that is computed in this step which it is, and its row of tokens."""
        for place, back in enumerate(sense.back(self.prompt)):
            if back is not None and 0 <= (at := self.length - 1 - back - self.before) < self.count:
                yield place, self.begins + at


class Senses:
    """The sense of each LoRA id (0 is the base), with its weights [places, layers, hidden] float32 on `device`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[int, tuple[Sense, torch.Tensor]] = {}
        self.begun: dict[Hashable, dict[int, torch.Tensor]] = {}
        """What was read of prompts that have not ended, by request and place."""

    def set(self, adapter: int, sense: Sense | None) -> None:
        """Set, or with None forget, the sense of a LoRA id."""
        self.known.pop(adapter, None)
        if sense is not None:
            self.known[adapter] = sense, torch.tensor(sense.weights, device=self.device)

    def forget(self, request: Hashable) -> None:
        """Forget what was read of a request, for another may be called so."""
        self.begun.pop(request, None)

    def read(self, stream: Mapping[int, torch.Tensor], parts: Sequence[Part]) -> tuple[list[int], torch.Tensor]:
        """The stream after each layer ([tokens, hidden] each) and the prompts' parts in it -> (places in the batch of those
        whose prompts end here, their log-odds of harm, float32, NaN where none was read: the adapter has no sense, a layer
        is missing, a state is no number, or the prompt has not each place).

        The products are taken on the device, element by element in float32: a matrix product may be rounded there (TF32).
        Under tensor parallelism the stream is whole on every rank, so each reads the same, and the first one's is sent.
        """
        ending = [part for part in parts if part.ends]
        found = torch.full((len(ending),), torch.nan, device=self.device)
        for adapter, (sense, weights) in self.known.items():
            if any(layer not in stream or stream[layer].shape[-1] != sense.hidden for layer in sense.layers):
                continue
            own = [(part.request, *place) for part in parts if part.adapter == adapter for place in part.places(sense)]
            if own:
                requests, places, rows = zip(*own, strict=True)
                at, which = sent(rows, self.device), sent(places, self.device)
                products = [stream[layer][at].float().mul(weights[which, i]).sum(-1) for i, layer in enumerate(sense.layers)]
                for request, place, value in zip(requests, places, torch.stack(products).sum(0), strict=True):
                    self.begun.setdefault(request, {})[place] = value
            ended = {n: self.begun.pop(part.request, {}) for n, part in enumerate(ending) if part.adapter == adapter}
            if whole := {n: list(read.values()) for n, read in ended.items() if len(read) == len(sense.places)}:
                read = torch.stack([value for values in whole.values() for value in values]).reshape(len(whole), -1).sum(1)
                found.index_copy_(0, sent(list(whole), self.device), read + sense.bias)
        while len(self.begun) > BEGUN:
            del self.begun[next(iter(self.begun))]
        return [part.row for part in ending], torch.where(found.isfinite(), found, torch.nan)
