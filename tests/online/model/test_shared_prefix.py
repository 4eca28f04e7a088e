"""What prompts share is passed once, and nothing that is computed from them changes by it."""

from __future__ import annotations

import pytest
import torch

from guard.openings import Tokens
from online.model import shared_prefix
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.shared_prefix import shared_length
from tests.online.model.paths import TREE, disturbed
from tests.online.tiny_model import random_prompts

CPU = torch.device("cpu")
SYSTEM = tuple(range(3, 23))
PROMPTS: list[Tokens] = [(*SYSTEM, *prompt) for prompt in random_prompts(9)]


@pytest.fixture(autouse=True)
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model's passes are worth as much as a large one's."""
    monkeypatch.setitem(shared_prefix.WORTH, "cpu", 1.0)


@pytest.fixture
def passed(llm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of ids of each pass."""
    shapes: list[tuple[int, ...]] = []
    whole = llm.hidden_states
    monkeypatch.setattr(llm, "hidden_states", lambda ids, *rest: shapes.append(tuple(ids.shape)) or whole(ids, *rest))
    return shapes


def apart(llm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every prompt is passed whole."""
    monkeypatch.setitem(shared_prefix.WORTH, llm.model.device.type, float("inf"))


def test_it_is_as_long_as_all_agree_and_leaves_one_token_of_each() -> None:
    assert shared_length(PROMPTS, CPU, 1) == len(SYSTEM)
    assert shared_length([SYSTEM] * 9, CPU, 1) == len(SYSTEM) - 1
    assert shared_length([*PROMPTS, (1, *SYSTEM)], CPU, 1) == 0
    assert shared_length(PROMPTS[:1], CPU, 1) == 0, "alone, none is saved"


def test_a_pass_more_must_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shared_prefix.WORTH, "cpu", 2e10)
    found = [shared_length(PROMPTS, CPU, size) for size in (2_000_000, 500_000_000)]
    assert found == [0, len(SYSTEM)], "160 tokens are few for a small model, and many for a large one"


def test_logits_masses_and_draws_are_the_same(
    llm: LocalModel, passed: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [prompt[-3:] for prompt in PROMPTS]
    with torch.no_grad():
        ours = llm.response_logits(PROMPTS, answers)[0].whole(), tree_mass(llm, PROMPTS, TREE)
        assert {(1, len(SYSTEM))} == {shape for shape in passed if shape[0] == 1} and len(passed) == 4
    said = generate(llm, PROMPTS, 2, max_tokens=6, seed=2)
    apart(llm, monkeypatch)
    with torch.no_grad():
        whole = llm.response_logits(PROMPTS, answers)[0].whole(), tree_mass(llm, PROMPTS, TREE)
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)
    assert [s.tokens for s in said] == [s.tokens for s in generate(llm, PROMPTS, 2, max_tokens=6, seed=2)]


def test_gradients_come_back_through_it(llm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, found = disturbed(llm, "a"), []
    for _ in range(2):
        with llm.adapter("a"):
            mass = tree_mass(llm, PROMPTS, TREE)
            found.append(torch.autograd.grad((mass * torch.arange(9)).sum(), parameters))
        apart(llm, monkeypatch)
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-3, atol=1e-6)


def test_where_layers_are_computed_again_prompts_are_passed_whole(llm: LocalModel, passed: list[tuple[int, ...]]) -> None:
    disturbed(llm, "a")
    llm.recompute_layers()
    with llm.adapter("a"):
        tree_mass(llm, PROMPTS, TREE).sum().backward()
    assert {rows for rows, _ in passed} == {len(PROMPTS)}
