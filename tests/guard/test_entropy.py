"""The NumPy reference against closed forms: what the torch entropy is held against must itself be right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from guard.entropy import token_entropy

LOGITS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-50, 50))


@pytest.mark.parametrize("size", [1, 2, 7, 4096, 151_936])
@pytest.mark.parametrize("level", [0.0, -1e4, 88.0, 1e4])
def test_a_uniform_distribution_has_the_entropy_log_v_at_any_level(size, level):
    assert token_entropy(np.full(size, level)) == pytest.approx(math.log(size), abs=1e-9)


def test_one_certain_token_has_entropy_zero():
    assert token_entropy([0.0, -np.inf, -np.inf]) == 0.0
    assert token_entropy([1e5, 0.0, 0.0]) == 0.0
    assert token_entropy([-1e5]) == 0.0


@pytest.mark.parametrize("p", [1e-9, 0.03, 0.5, 0.9])
def test_two_tokens_have_the_binary_entropy(p):
    expected = -p * math.log(p) - (1 - p) * math.log1p(-p)
    assert token_entropy([math.log(p), math.log1p(-p)]) == pytest.approx(expected, abs=1e-12)


def test_a_geometric_distribution_has_its_closed_form():
    p = 0.25
    k = np.arange(400)
    expected = (-(1 - p) * math.log(1 - p) - p * math.log(p)) / p
    assert token_entropy(k * math.log(1 - p) + math.log(p)) == pytest.approx(expected, abs=1e-12)


def test_a_masked_token_adds_nothing():
    logits = np.array([0.3, -1.2, 2.0])
    masked = np.array([0.3, -np.inf, -1.2, -np.inf, 2.0])
    assert token_entropy(masked) == pytest.approx(float(token_entropy(logits)), abs=1e-14)


def test_what_cannot_be_measured_is_nan_and_spoils_no_other_row():
    rows = np.array([[0.0, 0.0], [0.0, np.nan], [-np.inf, -np.inf], [0.0, np.inf], [1.0, 1.0]])
    entropies = token_entropy(rows)
    assert np.isnan(entropies).tolist() == [False, True, True, True, False]
    assert entropies[[0, 4]] == pytest.approx(math.log(2))


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_the_last_axis_is_the_vocabulary(shape):
    logits = np.random.default_rng(0).normal(size=shape)
    entropies = token_entropy(logits)
    assert entropies.shape == shape[:-1] and entropies.dtype == np.float64
    for index in np.ndindex(shape[:-1]):
        p = np.exp(logits[index]) / np.exp(logits[index]).sum()
        assert entropies[index] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-12)


def test_half_precision_is_widened_before_anything_is_summed():
    logits = np.random.default_rng(0).normal(size=5000).astype(np.float16)
    assert token_entropy(logits) == token_entropy(logits.astype(np.float64))


@given(LOGITS)
def test_it_lies_between_zero_and_log_v(logits):
    assert -1e-12 <= token_entropy(logits) <= math.log(len(logits)) + 1e-12


@given(LOGITS, st.floats(-1e3, 1e3))
def test_a_shift_of_all_logits_changes_nothing(logits, shift):
    assert token_entropy(logits + shift) == pytest.approx(float(token_entropy(logits)), abs=1e-9)


@given(LOGITS, st.randoms(use_true_random=False))
def test_the_order_of_the_vocabulary_changes_nothing(logits, random):
    shuffled = list(logits)
    random.shuffle(shuffled)
    assert token_entropy(shuffled) == pytest.approx(float(token_entropy(logits)), abs=1e-12)


@given(LOGITS, LOGITS)
def test_independent_choices_add_up(first, second):
    joint = (first[:, None] + second[None, :]).ravel()
    assert token_entropy(joint) == pytest.approx(float(token_entropy(first) + token_entropy(second)), abs=1e-9)
