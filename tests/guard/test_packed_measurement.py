"""The word that carries a token's measurements: nothing that goes in comes out changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.packed_measurement import MASS_NONE, MASS_STEPS, RANK_BITS, RANK_MAX, pack, unpack

ENTROPIES = st.floats(min_value=0.0, width=32, allow_nan=False)
MASSES = st.floats(0, 1)
RANKS = st.integers(0, RANK_MAX)
HALF_A_STEP = 0.5 / MASS_STEPS + 1e-12


def test_every_rank_survives():
    ranks = np.arange(RANK_MAX + 1)
    entropy, mass, back = unpack(pack(1.25, 0.5, ranks))
    assert (back == ranks).all() and (entropy == 1.25).all() and (mass == mass[0]).all()


def test_every_mass_code_survives():
    masses = np.arange(MASS_STEPS + 1) / MASS_STEPS
    assert (unpack(pack(0.0, masses, 1))[1] == masses).all()


@given(ENTROPIES, MASSES, RANKS)
def test_round_trip(entropy, mass, rank):
    there = pack(entropy, mass, rank)
    assert there.dtype == np.int64
    entropy_back, mass_back, rank_back = unpack(there)
    assert entropy_back == np.float32(entropy) and there < 0
    assert abs(mass_back - mass) <= HALF_A_STEP
    assert rank_back == rank


def test_the_ends_of_the_mass_are_exact():
    assert unpack(pack(0.0, [0.0, 1.0], 0))[1].tolist() == [0.0, 1.0]
    assert unpack(pack(0.0, [-0.2, 1.0 + 1e-6, np.inf, -np.inf], 0))[1].tolist() == [0.0, 1.0, 1.0, 0.0]


def test_a_mass_that_was_not_measured_is_nan_and_no_measured_one_is():
    words = pack(0.0, [np.nan, 1.0, 0.0], 3)
    assert np.isnan(unpack(words)[1]).tolist() == [True, False, False]
    assert (words >> RANK_BITS & MASS_NONE).tolist() == [MASS_NONE, MASS_STEPS, 0]


def test_ranks_saturate_and_touch_no_other_field():
    entropy, mass, rank = unpack(pack(2.5, 0.25, [RANK_MAX, RANK_MAX + 1, 1 << 40, -1]))
    assert rank.tolist() == [RANK_MAX, RANK_MAX, RANK_MAX, 0]
    assert (entropy == 2.5).all() and abs(mass - 0.25).max() <= HALF_A_STEP


def test_a_nan_entropy_stays_one():
    entropy, mass, rank = unpack(pack(np.nan, 0.5, 7))
    assert np.isnan(entropy) and rank == 7 and abs(mass - 0.5) <= HALF_A_STEP


def test_an_entropy_a_hair_below_zero_comes_back_as_one_above():
    """Rounding can put it there; its sign bit is the word's own."""
    entropy, mass, rank = unpack(pack(-1e-7, 0.75, 12))
    assert entropy == np.float32(1e-7) and rank == 12 and abs(mass - 0.75) <= HALF_A_STEP


@given(st.one_of(RANKS, st.integers(0, (1 << 63) - 1)))
def test_a_rank_that_no_probe_touched_is_no_measurement(word):
    """Absent is not zero: neither an entropy of 0 nor a mass of 0 is made of what vLLM ships without the probe."""
    entropy, mass, rank = unpack(word)
    assert np.isnan(entropy) and np.isnan(mass) and rank == word & RANK_MAX


@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (2, 3)])
def test_shapes_are_kept(shape):
    rng = np.random.default_rng(0)
    entropy, mass = rng.random(shape, np.float32), rng.random(shape)
    back = unpack(pack(entropy, mass, np.ones(shape, np.int64)))
    assert [np.shape(part) for part in back] == [shape] * 3
    assert np.array_equal(back[0], entropy)


@given(st.lists(st.tuples(ENTROPIES, MASSES, RANKS), min_size=1, max_size=20))
def test_an_array_packs_as_its_items_do(rows):
    entropies, masses, ranks = map(list, zip(*rows, strict=True))
    together = pack(np.array(entropies, np.float32), masses, ranks)
    assert together.tolist() == [int(pack(*row)) for row in rows]
