"""Responses are drawn from the raw distribution, and their entropies are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guard.entropy import token_entropy
from online.model.decoding import generate, uniform
from online.model.local_model import LocalModel
from online.model.token_budget import Room, TokenBudget
from tests.online.model.paths import distribution
from tests.online.tiny_model import END, VOCABULARY, random_prompts


def test_generation_ships_exact_entropies_and_ends(llm: LocalModel) -> None:
    prompts = random_prompts(9)
    samples = generate(llm, prompts, 2, max_tokens=12, seed=3)
    assert [s.prompt for s in samples] == [i for i in range(9) for _ in range(2)]
    for sample in samples:
        whole = (*prompts[sample.prompt], *sample.tokens)
        with torch.no_grad():
            logits = llm.model(torch.tensor([whole])).logits[0, len(prompts[sample.prompt]) - 1 : -1]
        np.testing.assert_allclose(sample.entropies, token_entropy(logits), atol=1e-4)
        assert END not in sample.tokens[:-1] and (sample.tokens[-1] == END or len(sample.tokens) == 12)
        assert sample.entropy == pytest.approx(np.mean(sample.entropies))


def test_generation_is_fixed_by_its_seed_alone(llm: LocalModel) -> None:
    prompts = random_prompts(5)
    one = generate(llm, prompts, 3, max_tokens=8, seed=1)
    torch.manual_seed(99)
    assert generate(llm, prompts, 3, max_tokens=8, seed=1) == one
    assert generate(llm, prompts, 3, max_tokens=8, seed=2) != one


def test_draws_are_the_prompt_s_own_however_it_is_batched(llm: LocalModel) -> None:
    prompts = random_prompts(12, longest=30)
    whole = generate(llm, prompts, 3, max_tokens=9, seed=5)
    said = [(s.prompt, s.tokens) for s in whole]
    for tokens in (1, 50, 200):
        llm.budget = TokenBudget(Room(tokens, 0), Room(tokens, 0), Room(2 * tokens, 3))
        again = generate(llm, prompts, 3, max_tokens=9, seed=5)
        assert [(s.prompt, s.tokens) for s in again] == said
        entropies = [np.concatenate([s.entropies for s in samples]) for samples in (again, whole)]
        np.testing.assert_allclose(*entropies, rtol=1e-3, atol=1e-5)
    assert [(s.prompt, s.tokens) for s in generate(llm, prompts[:4], 3, max_tokens=9, seed=5)] == said[:12]
    assert [s.tokens[:4] for s in generate(llm, prompts, 3, max_tokens=4, seed=5)] == [t[:4] for _, t in said]
    assert [s.tokens for s in generate(llm, prompts, max_tokens=9, seed=5)] == [t for _, t in said[::3]]


def test_a_prompt_s_number_is_its_luck(llm: LocalModel) -> None:
    prompts = random_prompts(6)
    whole = [s.tokens for s in generate(llm, prompts, max_tokens=9, seed=5)]
    some = [4, 1]
    parts = generate(llm, [prompts[at] for at in some], max_tokens=9, seed=5, numbers=some)
    assert [s.tokens for s in parts] == [whole[at] for at in some]


def test_luck_is_uniform_and_no_two_responses_share_it() -> None:
    rows = np.stack([uniform(seed, prompt, draw, 50) for seed in (0, 1) for prompt in range(20) for draw in range(5)])
    assert len(np.unique(rows)) == rows.size and abs(rows.mean() - 0.5) < 0.02 and 0 <= rows.min() and rows.max() < 1


def test_greedy_takes_the_likeliest_token(llm: LocalModel) -> None:
    prompts = random_prompts(4)
    for sample in generate(llm, prompts, temperature=0, max_tokens=6):
        for at, token in enumerate(sample.tokens):
            assert token == distribution(llm, (*prompts[sample.prompt], *sample.tokens[:at])).argmax()


def test_each_draw_has_its_temperature_and_each_prompt_its_limit(llm: LocalModel) -> None:
    prompts, limits = random_prompts(6), [3, 9, 1, 9, 5, 7]
    both = generate(llm, prompts, 2, temperature=(1.0, 0.0), max_tokens=limits, seed=5)
    warm = generate(llm, prompts, max_tokens=9, seed=5)
    cold = generate(llm, prompts, temperature=0.0, max_tokens=9, seed=5)
    for at, limit in enumerate(limits):
        assert both[2 * at].tokens == warm[at].tokens[:limit]
        assert both[2 * at + 1].tokens == cold[at].tokens[:limit]


def test_sampling_follows_the_raw_distribution(llm: LocalModel) -> None:
    prompt = random_prompts(1)[0]
    first = [s.tokens[0] for s in generate(llm, [prompt], 4000, max_tokens=1)]
    share = np.bincount(first, minlength=VOCABULARY) / 4000
    p = distribution(llm, prompt).numpy()
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3).all()


def test_the_model_s_own_sampling_settings_are_not_read(llm: LocalModel) -> None:
    prompts = random_prompts(5)
    before = generate(llm, prompts, max_tokens=8)
    llm.model.generation_config.top_k = 1
    llm.model.generation_config.temperature = 0.1
    assert generate(llm, prompts, max_tokens=8) == before
