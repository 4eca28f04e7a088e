"""Every formula against a NumPy twin, and the exact form against the sampled one it replaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guard.entropy import token_entropy as reference_entropy
from online.training import objective


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "logits": torch.randn(6, 5, 11, generator=draw) * 3,
        "ref": torch.randn(6, 5, 11, generator=draw) * 3,
        "tokens": torch.randint(0, 11, (6, 5), generator=draw),
        "mask": torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]] * 2).bool(),
        "advantages": torch.randn(6, generator=draw),
    }


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)) - x.max(-1, keepdims=True)


def picked(logits: torch.Tensor, tokens: torch.Tensor) -> np.ndarray:
    return np.take_along_axis(log_softmax(logits), tokens.numpy()[..., None], -1)[..., 0]


def test_reward(batch) -> None:
    entropy, mask = reference_entropy(batch["logits"]), batch["mask"].numpy()
    twin = [-entropy[i][mask[i]].mean() for i in range(6)]
    np.testing.assert_allclose(objective.reward(batch["logits"], batch["mask"]), twin, atol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_group_advantages(normalise: bool) -> None:
    rewards = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    rewards[2] = 0.5
    r = rewards.numpy()
    twin = r - r.mean(1, keepdims=True)
    if normalise:
        twin = twin / (r.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(objective.group_advantages(rewards, normalise), twin, atol=1e-5)


def test_token_logprobs(batch) -> None:
    found = objective.token_logprobs(batch["logits"], batch["tokens"])
    np.testing.assert_allclose(found, picked(batch["logits"], batch["tokens"]), atol=1e-5)


def test_clipped_surrogate(batch) -> None:
    logp, old = (objective.token_logprobs(batch[k], batch["tokens"]) for k in ("logits", "ref"))
    ratio, credit, mask = np.exp((logp - old).numpy()), batch["advantages"].numpy()[:, None], batch["mask"].numpy()
    gain = np.minimum(ratio * credit, np.clip(ratio, 0.8, 1.2) * credit)
    twin = -np.mean([gain[i][mask[i]].mean() for i in range(6)])
    found = objective.clipped_surrogate(logp, old, batch["advantages"], batch["mask"], 0.2)
    np.testing.assert_allclose(found, twin, rtol=1e-5)


def test_clipping_stops_the_gradient() -> None:
    logp = torch.tensor([[0.5], [0.5]], requires_grad=True)
    objective.clipped_surrogate(logp, torch.zeros(2, 1), torch.tensor([1.0, -1.0]), torch.ones(2, 1)).backward()
    assert logp.grad[0] == 0 and logp.grad[1] > 0


def test_k3(batch) -> None:
    logp, ref = (objective.token_logprobs(batch[k], batch["tokens"]) for k in ("logits", "ref"))
    x = (ref - logp).double().numpy()
    np.testing.assert_allclose(objective.k3(logp, ref), np.exp(x) - x - 1, rtol=1e-4, atol=1e-6)


def test_k3_is_unbiased_for_the_full_kl(batch) -> None:
    logits, ref = batch["logits"][0, 0], batch["ref"][0, 0]
    each = objective.k3(logits.log_softmax(-1), ref.log_softmax(-1))
    torch.testing.assert_close((logits.softmax(-1) * each).sum(), objective.full_vocabulary_kl(logits, ref))


def test_full_vocabulary_kl(batch) -> None:
    p, q = log_softmax(batch["logits"]), log_softmax(batch["ref"])
    twin = (np.exp(p) * (p - q)).sum(-1)
    np.testing.assert_allclose(objective.full_vocabulary_kl(batch["logits"], batch["ref"]), twin, rtol=1e-4)
    assert (objective.full_vocabulary_kl(batch["ref"], batch["ref"]) == 0).all()


def test_decision_gap_and_the_mode_that_is_missing() -> None:
    rewards = -torch.tensor([[1.0, 2.0, 0.5, 0.1], [1.0, 2.0, 3.0, 2.0], [0.4, 0.2, 0.3, 0.3]])
    refused = torch.tensor([[False, False, True, True], [False] * 4, [True] * 4])
    found = objective.decision_gap(rewards, refused, usual=(-0.25, -1.5))
    np.testing.assert_allclose(found, [1.5 - 0.3, 2.0 - 0.25, 1.5 - 0.3], atol=1e-6)
    np.testing.assert_allclose(objective.decision_gap(rewards, refused), [1.5 - 0.3, 0, 0], atol=1e-6)


def test_the_exact_form_is_what_the_sampled_form_expects() -> None:
    """Policy gradient of E[r] over a four-way choice, two of them refusals, with rewards that the choice decides."""
    logits = torch.tensor([0.3, -0.2, 0.9, 0.1], requires_grad=True)
    refusal = torch.tensor([True, True, False, False])
    rewards = torch.where(refusal, -0.4, -1.3)
    p = logits.softmax(0)
    score = torch.stack([torch.autograd.grad(p[i].log(), logits, retain_graph=True)[0] for i in range(4)])
    expected = (p.detach()[:, None] * (rewards - rewards @ p.detach())[:, None] * score).sum(0)
    loss = objective.decision_loss(p[refusal].sum()[None], torch.tensor([1.3 - 0.4]), scale=1.0)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], -expected)


def test_a_negative_gap_lowers_the_mass() -> None:
    mass = torch.tensor([0.2], requires_grad=True)
    objective.decision_loss(mass, torch.tensor([-0.5])).backward()
    assert mass.grad.item() == pytest.approx(2.0)


@given(
    masses=st.lists(st.tuples(st.floats(0, 1), st.floats(1e-3, 1)), min_size=1, max_size=8),
    strength=st.floats(0, 3),
)
def test_steering_is_in_proportion_to_what_is_left(masses: list[tuple[float, float]], strength: float) -> None:
    """Against NumPy: one d for all, strength times the upper quartile of the ratios, four times at most."""
    now, base = (np.array(column) for column in zip(*masses, strict=True))
    found = objective.steered_gap(torch.tensor(now), torch.tensor(base), strength)
    assert found.shape == (len(masses),)
    np.testing.assert_allclose(found, -strength * min(np.quantile(now / base, 0.75), 4.0), rtol=1e-6)


def test_a_few_prompts_that_keep_their_mass_do_not_keep_the_steering_of_all_strong() -> None:
    """Of nine prompts seven are steered down to nothing, two, harmful ones say, refuse as ever: d is next to nothing."""
    base = torch.full((9,), 0.1)
    now = torch.tensor([0.001] * 7 + [0.9] * 2)
    torch.testing.assert_close(objective.steered_gap(now, base, 1.5), torch.full((9,), -0.015))


def test_where_the_base_has_no_mass_at_all_steering_stays_finite() -> None:
    zero = torch.zeros(2)
    assert objective.steered_gap(zero, zero, 1.5).tolist() == [0.0, 0.0]
    assert objective.steered_gap(zero + 0.1, zero, 1.5).tolist() == [-6.0, -6.0]


def test_steering_carries_no_gradient_of_its_own() -> None:
    mass = torch.tensor([0.4], requires_grad=True)
    objective.decision_loss(mass, objective.steered_gap(mass, torch.tensor([0.2]), 1.0), scale=1.0).backward()
    assert mass.grad.item() == pytest.approx(2.0)
