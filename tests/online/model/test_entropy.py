"""The torch entropy against its NumPy reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guard.entropy import token_entropy as reference
from online.model.entropy import entropy_and_mass, token_entropy


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 151), (300, 1500), (2, 151_936), (0, 9)])
def test_it_equals_the_reference(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 6
    np.testing.assert_allclose(token_entropy(logits), reference(logits) if logits.numel() else [], atol=2e-6)
    assert token_entropy(logits).shape == shape[:-1]


def test_masked_logits_add_nothing() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf], [5.0, -math.inf, -math.inf], [0.0, -300.0, 0.0]])
    torch.testing.assert_close(token_entropy(logits), torch.tensor([math.log(2), 0.0, math.log(2)]))


def test_what_is_not_a_distribution_is_nan() -> None:
    logits = torch.tensor([[math.nan, 1.0], [-math.inf, -math.inf], [math.inf, 0.0], [1.0, 1.0]])
    assert token_entropy(logits).isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_measured_in_fp32(dtype: torch.dtype) -> None:
    logits = (torch.randn(4, 100, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    entropy = token_entropy(logits)
    assert entropy.dtype is torch.float32
    np.testing.assert_allclose(entropy, reference(logits.double()), atol=1e-5)


def test_the_input_is_left_as_it_was() -> None:
    logits = torch.randn(3, 10)
    before = logits.clone()
    token_entropy(logits)
    assert torch.equal(logits, before)


def test_entropy_and_mass_share_one_pass() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(2)) * 3
    children = torch.tensor([[1, 2, -1], [0, -1, -1], [-1, -1, -1], [7, 8, 9], [39, 3, 4]])
    weights = torch.rand(5, 3, generator=torch.Generator().manual_seed(3))
    entropy, mass = entropy_and_mass(logits, children, weights)
    p = logits.double().softmax(1)
    twin = [sum(float(w * p[r, c]) for c, w in zip(children[r], weights[r], strict=True) if c >= 0) for r in range(5)]
    assert torch.equal(entropy, token_entropy(logits))
    np.testing.assert_allclose(mass, twin, atol=1e-6)
