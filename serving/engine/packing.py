"""Packing: what a probe measures of rows of raw logits joins vLLM's ranks on its way home (guard/packed_measurement.py), and
what it reads around the end of a prompt joins vLLM's logprobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from guard.packed_measurement import MASS_NONE, MASS_STEPS, PRESENT, RANK_BITS, RANK_MAX
from online.model.entropy import entropy_and_mass, mass_among, token_entropy
from serving.engine.trees import Trees

if TYPE_CHECKING:
    from vllm.v1.outputs import LogprobsLists, LogprobsTensors

HARM = -7
"""The token id of a column that holds no logprobs but log-odds of harm, NaN where none was read."""
ENTROPY_ONLY = "sirl_entropy_only"
"""Key in `SamplingParams.extra_args`: the client asked for no logprobs, so none need be computed."""


def words_of(logits: torch.Tensor, trees: Trees, rows: torch.Tensor | None) -> torch.Tensor:
    """Logits ([n, vocabulary], raw) at rows of the trees' table ([n] int64; None: there are no trees) -> [n] int64 words."""
    if rows is None:
        return pack(token_entropy(logits), logits.new_full((len(logits),), torch.nan, dtype=torch.float32))
    tokens, weights = trees.tokens[rows], trees.weights[rows]
    entropy, mass = entropy_and_mass(logits, tokens, weights)
    if trees.reasons:
        among = trees.among[rows]
        mass[among] = mass_among(logits[among], tokens[among], weights[among])
    return pack(entropy, mass.masked_fill(~trees.measured[rows], torch.nan))


def pack(entropy: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """The upper 46 bits of each word ([rows] float32 nats, [rows] probabilities or NaN -> [rows] int64)."""
    bits = entropy.to(torch.float32).view(torch.int32).to(torch.int64)
    code = torch.where(mass.isnan(), MASS_NONE, (mass.nan_to_num().clamp(0, 1) * MASS_STEPS).round()).to(torch.int64)
    return PRESENT | (bits << 32) | (code << RANK_BITS)


def joined(tensors: LogprobsTensors, words: torch.Tensor) -> LogprobsTensors:
    """vLLM's tensors with a word in each rank; row k of the words belongs to row k of the tensors."""
    ranks = tensors.selected_token_ranks.to(torch.int64).clamp(0, RANK_MAX)
    return tensors._replace(selected_token_ranks=ranks | words)


def with_harm(tensors: LogprobsTensors, rows: list[int], harm: torch.Tensor) -> LogprobsTensors:
    """vLLM's tensors with one more column of logprobs, last: `harm` ([n] float32) in these n rows, NaN in all others. It
    travels only in steps that end a prompt, and like the words it cannot lose its row."""
    tokens = torch.full_like(tensors.logprob_token_ids[:, :1], HARM)
    column = torch.full_like(tensors.logprobs[:, :1], torch.nan)
    column[sent(rows, harm.device), 0] = harm.to(column.dtype)
    return tensors._replace(
        logprob_token_ids=torch.cat([tensors.logprob_token_ids, tokens], 1),
        logprobs=torch.cat([tensors.logprobs, column], 1),
    )


def without_harm(lists: LogprobsLists) -> tuple[float | None, LogprobsLists]:
    """The log-odds of harm that came with one request's rows, None for none, and the rows as vLLM made them."""
    ids = lists.logprob_token_ids
    if not ids.size or ids[0, -1] != HARM:
        return None, lists
    read = lists.logprobs[:, -1]
    found = read[~np.isnan(read)]
    lists = lists._replace(logprob_token_ids=ids[:, :-1], logprobs=lists.logprobs[:, :-1])
    return (float(found[0]) if len(found) else None), lists


def sent(values: list[int], device: torch.device) -> torch.Tensor:
    """A list as int64 on the device, without waiting for what is queued there."""
    tensor = torch.tensor(values, dtype=torch.int64, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)
