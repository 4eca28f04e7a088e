"""The mass of a tree of openings is the sum over its paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from guard.openings import Openings
from guard.reasoning import Reasoning
from online.model import chunked_logits
from online.model.local_model import LocalModel
from online.model.opening_trees import first_mass, node_masses, path_logprobs, serving_mass, tree_mass
from online.model.token_budget import Room, TokenBudget
from tests.online.model.paths import TREE, distribution, disturbed
from tests.online.tiny_model import VOCABULARY, random_prompts, tiny_llm


def path_probability(llm: LocalModel, prompt: tuple[int, ...], path: tuple[int, ...]) -> float:
    return math.prod(float(distribution(llm, (*prompt, *path[:k]))[path[k]]) for k in range(len(path)))


def test_tree_mass_is_the_sum_over_all_paths(llm: LocalModel) -> None:
    prompts = random_prompts(7)
    with torch.no_grad():
        found = tree_mass(llm, prompts, TREE)
    twin = [sum(path_probability(llm, p, s) for s in TREE.sequences) for p in prompts]
    np.testing.assert_allclose(found, twin, rtol=1e-4, atol=1e-7)


def test_a_tree_of_all_tokens_has_mass_one(llm: LocalModel) -> None:
    every = Openings(tuple((token,) for token in range(VOCABULARY)))
    with torch.no_grad():
        torch.testing.assert_close(tree_mass(llm, random_prompts(3), every), torch.ones(3))


def test_tree_mass_is_differentiable(llm: LocalModel) -> None:
    parameters = disturbed(llm, "a")
    with llm.adapter("a"):
        tree_mass(llm, random_prompts(4), TREE).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


def test_in_pieces_it_is_the_same_and_so_is_its_gradient(llm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, found = disturbed(llm, "a"), []
    for tokens, logits in ((10_000, 1 << 23), (30, 3 * VOCABULARY)):
        monkeypatch.setattr(chunked_logits, "LOGITS", logits)
        llm.budget = TokenBudget(*[Room(tokens, 0)] * 3)
        with llm.adapter("a"):
            mass = tree_mass(llm, random_prompts(9), TREE)
            gradient = torch.autograd.grad((mass * torch.arange(9)).sum(), parameters)
        found.append((mass.detach(), *gradient))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_masses_are_summed_in_fp32_whatever_the_model_is_in() -> None:
    llm, prompts = tiny_llm(dtype=torch.bfloat16), random_prompts(5)
    every = [(token,) for token in range(VOCABULARY)]
    with torch.no_grad():
        found = path_logprobs(llm, prompts, every)
        twin = [llm.model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1) for prompt in prompts]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5), rtol=0, atol=1e-5)
    longest = max(range(5), key=lambda i: len(prompts[i]))  # unpadded in the batch, so that it is computed alike
    np.testing.assert_allclose(found[longest], twin[longest], atol=0.05)


def test_serving_mass_is_that_of_the_deepest_node_reached(llm: LocalModel) -> None:
    prompt = random_prompts(1)[0]
    responses = [(5, 20), (6, 7, 1), (6, 8, 30), (20, 21), (11, 12, 30), (6,)]
    found = serving_mass(llm, [prompt] * len(responses), responses, TREE)
    at = lambda *prefix: distribution(llm, (*prompt, *prefix))  # noqa: E731
    root = at()[5] + 0.4 * at()[6] + 0.2 * at()[11]
    after_6 = at(6)[7] + 0.7 * at(6)[8]
    twin = [root, after_6, at(6, 8)[9] + at(6, 8)[10], root, at(11, 12)[13], after_6]
    np.testing.assert_allclose(found, torch.stack(twin), rtol=1e-4)


def tokens_passed(llm: LocalModel, work: Callable[[], object]) -> int:
    """Tokens that went through the model while `work` ran."""
    seen: list[int] = []
    hook = llm.model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    with torch.no_grad():
        work()
    hook.remove()
    return sum(seen)


@pytest.mark.parametrize("reasoning", [None, Reasoning(30, 31, frozenset({32, 33}))], ids=["plain", "reasoning"])
def test_one_pass_gives_what_separate_ones_do(llm: LocalModel, reasoning: Reasoning | None) -> None:
    tree, prompts = replace(TREE, reasoning=reasoning), random_prompts(9)
    responses = [(5, 20), (6, 7, 1), (6, 8, 30), (20, 21), (11, 12, 30), (6,), (11,), (11, 12, 13, 3), (6, 8)]
    with torch.no_grad():
        found = node_masses(llm, prompts, tree)
        torch.testing.assert_close(found.tree, tree_mass(llm, prompts, tree))
        torch.testing.assert_close(found.first, first_mass(llm, prompts, tree))
        apart = [serving_mass(llm, [p], [r], tree) for p, r in zip(prompts, responses, strict=True)]
    torch.testing.assert_close(found.serving(range(9), responses), torch.cat(apart))
    torch.testing.assert_close(found.serving([3, 3], [(6,), ()]), found.nodes[[3, 3], [1, 0]])
    once = tokens_passed(llm, lambda: tree_mass(llm, prompts, tree))
    assert tokens_passed(llm, lambda: node_masses(llm, prompts, tree)) == once
    assert tokens_passed(llm, lambda: serving_mass(llm, prompts * 4, responses * 4, tree)) == once, "each prompt once"


def test_masses_are_weighed_by_the_openings_they_are_read_with(llm: LocalModel) -> None:
    """A calibration learns the weights from the masses, and then reads on with these."""
    prompts = random_prompts(4)
    plain = node_masses(llm, prompts, Openings(TREE.sequences))
    assert plain.nodes is plain.nodes, "computed once"
    weighed = replace(plain, openings=TREE)
    assert not torch.allclose(weighed.nodes, plain.nodes)
    torch.testing.assert_close(weighed.nodes, node_masses(llm, prompts, TREE).nodes)


def test_a_reasoning_model_s_first_mass_is_among_what_begins_an_answer(llm: LocalModel) -> None:
    tree, prompt = replace(TREE, reasoning=Reasoning(30, 31, frozenset({32, 33}))), random_prompts(1)[0]
    p = distribution(llm, prompt)
    root = (p[5] + 0.4 * p[6] + 0.2 * p[11]) / (1 - sum(p[token] for token in tree.reasoning.aside))
    found = node_masses(llm, [prompt], tree)
    assert float(found.first) == pytest.approx(float(root), rel=1e-4)


def test_chances_of_completing_are_those_of_all_prompts_together(llm: LocalModel) -> None:
    prompts = random_prompts(6)
    values = node_masses(llm, prompts, Openings(TREE.sequences)).completing()
    assert set(values) == {(6,), (6, 8), (11,), (11, 12), (11, 12, 13)}
    for prefix, value in values.items():
        under = [s for s in TREE.sequences if s[: len(prefix)] == prefix]
        weigh = lambda path: sum(path_probability(llm, prompt, path) for prompt in prompts)  # noqa: B023, E731
        assert value == pytest.approx(sum(map(weigh, under)) / weigh(prefix), rel=1e-3)
