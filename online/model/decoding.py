"""Decoding: responses drawn from a local model, token by token, with their exact entropies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
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
    rows: int = 256,
) -> list[Sample]:
    """`n` responses to each prompt, in order, from the raw distribution (temperature 0: greedy).

    Every token is drawn by one uniform number, fixed by seed, prompt and position before any model
    runs: two policies given one seed share their luck (common random numbers), which sharpens paired
    comparisons. No other sampling setting exists here, and the model's own are not read.
    """
    generator = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, list[Sample]] = {}
    each = max(1, rows // n)
    for start in range(0, len(order), each):
        chunk = order[start : start + each]
        luck = torch.rand(len(chunk) * n, max_tokens, generator=generator, dtype=torch.float64)
        for row, drawn in enumerate(_decode(policy, [prompts[i] for i in chunk], n, temperature, luck)):
            index = chunk[row // n]
            found.setdefault(index, []).append(Sample(index, *drawn))
    return [sample for index in range(len(prompts)) for sample in found[index]]


def _decode(
    policy: LocalModel, prompts: Sequence[Sequence[int]], n: int, temperature: float, luck: Tensor
) -> Iterator[tuple[Tokens, tuple[float, ...], tuple[float, ...]]]:
    """(tokens, entropies, log-probabilities) of each row. One prefill a prompt, its cache shared by `n` rows; rows that
    have ended are let go."""
    ids, mask = policy.left_padded(prompts)
    cache = DynamicCache(config=policy.model.config)
    logits = policy.forward(ids, mask, positions(mask), keep=1, cache=cache)[:, -1].repeat_interleave(n, 0)
    cache.batch_repeat_interleave(n)
    mask = mask.repeat_interleave(n, 0)
    luck = luck.to(logits.device)
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
