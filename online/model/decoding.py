"""Decoding: responses drawn from a local model, token by token, with their exact entropies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    DynamicCache,
)

from guard.openings import Tokens
from online.model.entropy import entropy_and_logprob
from online.model.local_model import LocalModel
from online.model.sample import Sample
from online.model.token_rows import draw, positions


@torch.no_grad()
def generate(
    policy: LocalModel,
    prompts: Sequence[Sequence[int]],
    n: int = 1,
    *,
    temperature: float = 1.0,
    max_tokens: int = 128,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> list[Sample]:
    """`n` responses to each prompt, in order, from the raw distribution (temperature 0: greedy).

    Every token is drawn by one uniform number, fixed by seed, prompt, draw and position before any model
    runs: two policies given one seed share their luck (common random numbers), which sharpens paired
    comparisons, and how prompts are batched changes nothing. No other sampling setting exists here, and
    the model's own are not read. numbers: one for each prompt, in place of its index, to fix its luck by.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    found: dict[tuple[int, int], Sample] = {}
    for batch in policy.budget.passing.batches([(len(prompt),) for prompt in prompts]):
        rows = [(index, draw) for index in batch for draw in range(n)]
        room = policy.budget.cached
        for part in room.batches([(len(prompts[index]),) for index, _ in rows], max_tokens + room.logits):
            drawn = [rows[row] for row in part]
            place = {index: at for at, index in enumerate(dict.fromkeys(index for index, _ in drawn))}
            luck = torch.from_numpy(np.stack([uniform(seed, numbers[index], at, max_tokens) for index, at in drawn]))
            origin = torch.tensor([place[index] for index, _ in drawn])
            said = _decode(policy, [prompts[index] for index in place], origin, temperature, luck)
            found |= {row: Sample(row[0], *one) for row, one in zip(drawn, said, strict=True)}
    return [found[index, draw] for index in range(len(prompts)) for draw in range(n)]


def uniform(seed: int, prompt: int, draw: int, count: int) -> NDArray[np.float64]:
    """The luck of one response: `count` uniform numbers, of seed, number of the prompt and of the draw alone."""
    return np.random.default_rng((seed, prompt, draw)).random(count)


def _decode(
    policy: LocalModel, prompts: Sequence[Sequence[int]], origin: Tensor, temperature: float, luck: Tensor
) -> Iterator[tuple[Tokens, tuple[float, ...], tuple[float, ...]]]:
    """(tokens, entropies, log-probabilities) of each row; origin, luck: index of its prompt, and one number a token. One
    prefill a prompt, its cache shared by its rows; rows that have ended are let go."""
    ids, mask = policy.left_padded(prompts)
    cache = DynamicCache(config=policy.model.config)
    logits = policy.forward(ids, mask, positions(mask), keep=1, cache=cache)[:, -1]
    origin, luck = origin.to(ids.device), luck.to(ids.device)
    cache.batch_select_indices(origin)
    logits, mask = logits[origin], mask[origin]
    rows = torch.arange(len(mask), device=mask.device)
    tokens = torch.zeros(luck.shape, dtype=torch.long, device=mask.device)
    entropies, logprobs = torch.zeros(2, *luck.shape, device=mask.device)
    lengths = torch.zeros(len(rows), dtype=torch.long, device=mask.device)
    for at in range(luck.shape[1]):
        drawn = draw(logits, luck[rows, at], temperature)
        tokens[rows, at] = drawn
        entropies[rows, at], logprobs[rows, at] = entropy_and_logprob(logits, drawn)
        lengths[rows] = at + 1
        alive = (~torch.isin(drawn, policy.ends)).nonzero()[:, 0]
        if not len(alive) or at + 1 == luck.shape[1]:
            break
        if len(alive) < len(rows):
            cache.batch_select_indices(alive)
            rows, mask, drawn = rows[alive], mask[alive], drawn[alive]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = policy.forward(drawn[:, None], mask, mask.sum(1, keepdim=True) - 1, keep=1, cache=cache)[:, -1]
    for row, length in enumerate(lengths.tolist()):
        said, hesitation, likely = (tuple(kept[row, :length].tolist()) for kept in (tokens, entropies, logprobs))
        yield said, hesitation, likely
