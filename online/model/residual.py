"""Residual streams: what a model's decoder layers hand on, read around the end of each prompt.

Layers are counted from 1: layer l is read after it, as transformers' `hidden_states[l]` of all but the last layer, whose own
is read before the final norm. What reads it is `guard.sense`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from guard.sense import Sense
from online.model.local_model import LocalModel, ModelError


def harm_of(llm: LocalModel, prompts: Sequence[Sequence[int]], sense: Sense) -> NDArray[np.float64]:
    """h of each prompt, (prompts,), NaN where it was not read: a prompt has not each place, or a state is no number. Raises
    as `residuals`."""
    found = residuals(llm, prompts, sense.layers, [sense.back(prompt) for prompt in prompts])
    return np.array([sense.read(states) for states in found.numpy()], dtype=float)


@torch.no_grad()
def residuals(
    llm: LocalModel,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    back: Sequence[Sequence[int | None]] | None = None,
) -> Tensor:
    """The stream after each of these layers at places of each prompt, (prompts, places, layers, hidden), fp32, on the CPU.

    back: how many tokens each place lies before the prompt's last, as many of every prompt, and None for one that it has
    not, where NaN is read; None for all: the last token alone.
    One forward pass a prompt, without logits; of a batch no more is kept than those rows. Raises ModelError where the model
    has no such layer, ValueError for a prompt without tokens.
    """
    back = [(0,)] * len(prompts) if back is None else back
    if not all(map(len, prompts)):
        raise ValueError("a prompt without tokens has no last one to read the stream at: give it one at least")
    width = llm.model.config.get_text_config().hidden_size
    found = torch.full((len(prompts), len(back[0]) if back else 1, len(layers), width), torch.nan)
    for batch in llm.budget.passing.batches([(len(prompt),) for prompt in prompts]):
        columns = sorted({-1, *(-1 - far for i in batch for far in back[i] if far is not None)})
        laid = llm.laid_out([prompts[i] for i in batch], rest=-columns[0])
        with streams(llm, layers, columns) as read:
            llm.hidden_states(laid.ids, laid.mask, laid.places(), laid.cache)
        whole = torch.stack([read[layer] for layer in layers], 2).float().cpu()  # (batch, columns, layers, hidden)
        for row, i in enumerate(batch):
            for place, far in enumerate(back[i]):
                if far is not None:
                    found[i, place] = whole[row, columns.index(-1 - far)]
    return found


@contextmanager
def streams(llm: LocalModel, layers: Sequence[int], columns: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within it every pass leaves the stream after these layers in these columns, by layer: (batch, columns, hidden)."""
    every, read = decoder_layers(llm), dict[int, Tensor]()
    if missing := [layer for layer in layers if not 1 <= layer <= len(every)]:
        raise ModelError(f"The model has {len(every)} layers and no layer {missing[0]}: name others, counted from 1.")

    def keep(layer: int) -> Any:
        def hook(module: nn.Module, given: Any, out: Tensor | tuple[Tensor, ...]) -> None:
            whole = out[0] if isinstance(out, tuple) else out
            read[layer] = whole[:, list(columns)].clone()  # a view would hold the whole of it

        return hook

    handles = [every[layer - 1].register_forward_hook(keep(layer)) for layer in dict.fromkeys(layers)]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def decoder_layers(llm: LocalModel) -> nn.ModuleList:
    """The layers in order. Raises ModelError where the decoder has no list of as many as its configuration says."""
    count = llm.model.config.get_text_config().num_hidden_layers
    decoder = llm.model.get_decoder()
    lists = [m for m in (decoder, *decoder.modules()) if isinstance(m, nn.ModuleList) and len(m) == count]
    if not lists:
        kind = type(llm.model).__name__
        raise ModelError(f"The decoder layers of {kind} were not found, so its residual stream cannot be read: go without.")
    return lists[0]
