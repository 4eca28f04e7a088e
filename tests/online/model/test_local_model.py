"""The policy against plain forward passes of one unpadded row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from peft import LoraConfig

from guard.entropy import token_entropy
from guard.openings import Openings
from online.model.decoding import generate
from online.model.local_model import LocalModel, ModelError
from online.model.opening_trees import serving_mass, tree_mass
from tests.online.tiny_model import END, VOCABULARY, random_prompts, save_tiny, tiny_policy

TREE = Openings(((5,), (6, 7), (6, 8, 9), (6, 8, 10), (11, 12, 13, 14)), {(6,): 0.4, (6, 8): 0.7, (11,): 0.2})
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def distribution(policy: LocalModel, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return policy.model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)


def path_probability(policy: LocalModel, prompt: tuple[int, ...], path: tuple[int, ...]) -> float:
    return math.prod(float(distribution(policy, (*prompt, *path[:k]))[path[k]]) for k in range(len(path)))


def disturbed(policy: LocalModel, name: str, seed: int = 0) -> list[torch.nn.Parameter]:
    parameters = policy.add_adapter(name, LORA, seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter += torch.randn(parameter.shape, generator=draw) * 0.2
    return parameters


@pytest.fixture
def policy() -> LocalModel:
    return tiny_policy()


def test_tree_mass_is_the_sum_over_all_paths(policy: LocalModel) -> None:
    prompts = random_prompts(7)
    with torch.no_grad():
        found = tree_mass(policy, prompts, TREE)
    twin = [sum(path_probability(policy, p, s) for s in TREE.sequences) for p in prompts]
    np.testing.assert_allclose(found, twin, rtol=1e-4, atol=1e-7)


def test_a_tree_of_all_tokens_has_mass_one(policy: LocalModel) -> None:
    every = Openings(tuple((token,) for token in range(VOCABULARY)))
    with torch.no_grad():
        torch.testing.assert_close(tree_mass(policy, random_prompts(3), every), torch.ones(3))


def test_tree_mass_is_differentiable(policy: LocalModel) -> None:
    parameters = disturbed(policy, "a")
    with policy.adapter("a"):
        tree_mass(policy, random_prompts(4), TREE).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


def test_serving_mass_is_that_of_the_deepest_node_reached(policy: LocalModel) -> None:
    prompt = random_prompts(1)[0]
    responses = [(5, 20), (6, 7, 1), (6, 8, 30), (20, 21), (11, 12, 30), (6,)]
    found = serving_mass(policy, [prompt] * len(responses), responses, TREE)
    at = lambda *prefix: distribution(policy, (*prompt, *prefix))  # noqa: E731
    root = at()[5] + 0.4 * at()[6] + 0.2 * at()[11]
    after_6 = at(6)[7] + 0.7 * at(6)[8]
    twin = [root, after_6, at(6, 8)[9] + at(6, 8)[10], root, at(11, 12)[13], after_6]
    np.testing.assert_allclose(found, torch.stack(twin), rtol=1e-4)


def test_generation_ships_exact_entropies_and_ends(policy: LocalModel) -> None:
    prompts = random_prompts(9)
    samples = generate(policy, prompts, 2, max_tokens=12, seed=3)
    assert [s.prompt for s in samples] == [i for i in range(9) for _ in range(2)]
    for sample in samples:
        whole = (*prompts[sample.prompt], *sample.tokens)
        with torch.no_grad():
            logits = policy.model(torch.tensor([whole])).logits[0, len(prompts[sample.prompt]) - 1 : -1]
        np.testing.assert_allclose(sample.entropies, token_entropy(logits), atol=1e-4)
        assert END not in sample.tokens[:-1] and (sample.tokens[-1] == END or len(sample.tokens) == 12)
        assert sample.entropy == pytest.approx(np.mean(sample.entropies))


def test_generation_is_fixed_by_its_seed_alone(policy: LocalModel) -> None:
    prompts = random_prompts(5)
    one = generate(policy, prompts, 3, max_tokens=8, seed=1)
    torch.manual_seed(99)
    assert generate(policy, prompts, 3, max_tokens=8, seed=1) == one
    assert generate(policy, prompts, 3, max_tokens=8, seed=2) != one


def test_greedy_takes_the_likeliest_token(policy: LocalModel) -> None:
    prompts = random_prompts(4)
    for sample in generate(policy, prompts, temperature=0, max_tokens=6):
        for at, token in enumerate(sample.tokens):
            assert token == distribution(policy, (*prompts[sample.prompt], *sample.tokens[:at])).argmax()


def test_sampling_follows_the_raw_distribution(policy: LocalModel) -> None:
    prompt = random_prompts(1)[0]
    first = [s.tokens[0] for s in generate(policy, [prompt], 4000, max_tokens=1, rows=4000)]
    share = np.bincount(first, minlength=VOCABULARY) / 4000
    p = distribution(policy, prompt).numpy()
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3).all()


def test_the_model_s_own_sampling_settings_are_not_read(policy: LocalModel) -> None:
    prompts = random_prompts(5)
    before = generate(policy, prompts, max_tokens=8)
    policy.model.generation_config.top_k = 1
    policy.model.generation_config.temperature = 0.1
    assert generate(policy, prompts, max_tokens=8) == before


def test_response_logits_line_up_with_their_tokens(policy: LocalModel) -> None:
    prompts, responses = random_prompts(3), [(7, 8, 9, 2), (10,), (11, 12)]
    with torch.no_grad():
        read, tokens, mask = policy.response_logits(prompts, responses)
        logits = read.whole()
    assert mask.sum(1).tolist() == [4, 1, 2]
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        for at in range(len(response)):
            assert tokens[row, at] == response[at]
            found = logits[row, at].double().softmax(-1)
            np.testing.assert_allclose(found, distribution(policy, (*prompt, *response[:at])), atol=1e-5)


def test_adapters_share_one_base_and_leave_it_alone(policy: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(policy, prompts, TREE)
        disturbed(policy, "a", 1)
        disturbed(policy, "b", 2)
        with policy.adapter("a"):
            one = tree_mass(policy, prompts, TREE)
            with policy.adapter(None):
                assert torch.equal(tree_mass(policy, prompts, TREE), base)
            assert torch.equal(tree_mass(policy, prompts, TREE), one)
        with policy.adapter("b"):
            assert not torch.allclose(tree_mass(policy, prompts, TREE), one)
        assert torch.equal(tree_mass(policy, prompts, TREE), base)


def test_a_fresh_adapter_changes_nothing(policy: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(policy, prompts, TREE)
        policy.add_adapter("a", LORA)
        with policy.adapter("a"):
            torch.testing.assert_close(tree_mass(policy, prompts, TREE), base)


def test_a_saved_adapter_comes_back_the_same(policy: LocalModel, tmp_path) -> None:
    prompts = random_prompts(4)
    disturbed(policy, "a")
    with policy.adapter("a"), torch.no_grad():
        expected = tree_mass(policy, prompts, TREE)
    (tmp_path / "adapter").mkdir()
    policy.save_adapter("a", tmp_path / "adapter")
    files = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json"}
    other = LocalModel.load(save_tiny(tmp_path / "model"), tmp_path / "adapter")
    with other.adapter("adapter"), torch.no_grad():
        assert torch.equal(tree_mass(other, prompts, TREE), expected)


def test_what_cannot_be_loaded_is_one_sentence(policy: LocalModel, tmp_path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalModel.load(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        policy.load_adapter("a", tmp_path)


def test_messages_are_rendered_with_the_template(policy: LocalModel) -> None:
    assert policy.render([{"role": "user", "content": "w7 w8"}]) == (3, 7, 8, 4, 5)
    assert policy.text((7, 8, END)) == "w7 w8"
