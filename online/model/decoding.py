"""Decoding: responses drawn from a local model, token by token, with their exact entropies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    DynamicCache,
)

from guard.openings import Tokens
from online.model.entropy import entropy_and_logprob
from online.model.local_model import LocalModel
from online.model.sample import Sample
from online.model.token_rows import draw


@torch.no_grad()
def generate(
    llm: LocalModel,
    prompts: Sequence[Sequence[int]],
    n: int | Sequence[int] = 1,
    *,
    temperature: float | Sequence[float] = 1.0,
    max_tokens: int | Sequence[int] = 128,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    ended: Callable[[int], object] = lambda count: None,
) -> list[Sample]:
    """`n` responses to each prompt, in order, from the raw distribution.

    Every token is drawn by one uniform number, fixed by seed, prompt, draw and position before any model
    runs: two models given one seed share their luck (common random numbers), which sharpens paired
    comparisons, and how prompts are batched changes nothing. No other sampling setting exists here, and
    the model's own are not read. n: to all prompts, or to each. temperature: of all responses, or of each of a prompt's
    (0: greedy). max_tokens: of all, or of those to each prompt. numbers: one for each prompt, in place of its index, to fix
    its luck by. ended: told how many responses have ended more.
    """
    numbers = range(len(prompts)) if numbers is None else numbers
    counts = (n,) * len(prompts) if isinstance(n, int) else n
    heats = (temperature,) * max(counts, default=0) if isinstance(temperature, (int, float)) else temperature
    limits = (max_tokens,) * len(prompts) if isinstance(max_tokens, int) else max_tokens
    found: dict[tuple[int, int], Sample] = {}
    for batch in llm.budget.passing.batches([(len(prompt),) for prompt in prompts]):
        rows = [(index, at) for index in batch for at in range(counts[index])]
        room = llm.budget.cached
        for part in room.batches([(len(prompts[index]), limits[index]) for index, _ in rows], room.logits):
            drawn = [rows[row] for row in part]
            place = {index: at for at, index in enumerate(dict.fromkeys(index for index, _ in drawn))}
            wanted = [
                Wanted(place[index], heats[at], uniform(seed, numbers[index], at, limits[index])) for index, at in drawn
            ]
            said = _decode(llm, [prompts[index] for index in place], wanted, ended)
            found |= {row: Sample(row[0], *one) for row, one in zip(drawn, said, strict=True)}
    return [found[index, at] for index in range(len(prompts)) for at in range(counts[index])]


def uniform(seed: int, prompt: int, draw: int, count: int) -> NDArray[np.float64]:
    """The luck of one response: `count` uniform numbers, of seed, number of the prompt and of the draw alone."""
    return np.random.default_rng((seed, prompt, draw)).random(count)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A response that is wanted: index of its prompt, its temperature, and one number for each token that it may have."""

    prompt: int
    temperature: float
    luck: NDArray[np.float64]


def _decode(
    llm: LocalModel,
    prompts: Sequence[Sequence[int]],
    wanted: Sequence[Wanted],
    ended: Callable[[int], object],
) -> Iterator[tuple[Tokens, tuple[float, ...], tuple[float, ...]]]:
    """(tokens, entropies, log-probabilities) of each response. One prefill a prompt, its cache shared by its responses; rows
    that have ended are let go."""
    laid = llm.laid_out(prompts)
    cache = laid.cache or DynamicCache(config=llm.model.config)
    logits = llm.forward(laid.ids, laid.mask, laid.places(), keep=1, cache=cache)[:, -1]
    device = logits.device
    origin = torch.tensor([one.prompt for one in wanted], device=device)
    heat = torch.tensor([one.temperature for one in wanted], device=device)
    limit = torch.tensor([len(one.luck) for one in wanted], device=device)
    luck = torch.from_numpy(_rows([one.luck for one in wanted])).to(device)
    cache.batch_select_indices(origin)
    logits, mask = logits[origin], laid.mask[origin]
    rows = torch.arange(len(wanted), device=device)
    tokens = torch.zeros(luck.shape, dtype=torch.long, device=device)
    entropies, logprobs = torch.zeros(2, *luck.shape, device=device)
    lengths = torch.zeros(len(rows), dtype=torch.long, device=device)
    for at in range(luck.shape[1]):
        drawn = draw(logits, luck[rows, at], heat[rows])
        tokens[rows, at] = drawn
        entropies[rows, at], logprobs[rows, at] = entropy_and_logprob(logits, drawn)
        lengths[rows] = at + 1
        alive = (~torch.isin(drawn, llm.ends) & (limit[rows] > at + 1)).nonzero()[:, 0]
        ended(len(rows) - len(alive))
        if not len(alive):
            break
        if len(alive) < len(rows):
            cache.batch_select_indices(alive)
            rows, mask, drawn = rows[alive], mask[alive], drawn[alive]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = llm.forward(drawn[:, None], mask, mask.sum(1, keepdim=True) - 1, keep=1, cache=cache)[:, -1]
    for row, length in enumerate(lengths.tolist()):
        said, hesitation, likely = (tuple(kept[row, :length].tolist()) for kept in (tokens, entropies, logprobs))
        yield said, hesitation, likely


def _rows(ragged: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """As one array, filled up with zeros."""
    found = np.zeros((len(ragged), max(map(len, ragged))))
    for row, values in zip(found, ragged, strict=True):
        row[: len(values)] = values
    return found
