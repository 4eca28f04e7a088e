"""Live masses against a calibration's deciles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.drift import LEAST, WINDOW, Drift, deciles

RNG = np.random.default_rng(0)


def drifted(expected, masses) -> float:
    drift = Drift(expected)
    for mass in masses:
        drift.add(mass)
    return drift.value


def test_the_same_masses_do_not_drift_and_others_do():
    seen = RNG.beta(0.5, 4, 2000)
    assert drifted(deciles(seen), RNG.beta(0.5, 4, WINDOW)) < 0.1
    assert drifted(deciles(seen), np.zeros(WINDOW)) > 0.6, "the place was moved: no mass anywhere"
    assert drifted(deciles(seen), RNG.beta(4, 0.5, WINDOW)) > 0.8


def test_masses_that_are_all_alike_do_not_drift_from_themselves():
    assert drifted(deciles(np.zeros(50)), [0.0] * LEAST) == 0.0
    assert drifted(deciles([0.0] * 70 + [0.5] * 30), [0.0] * 70 + [0.5] * 30) == 0.0
    assert deciles([1e-9]) == (0.0,) * 9, "as exact as a mass travels"


def test_few_masses_say_nothing_and_old_ones_are_let_go():
    expected = deciles(RNG.random(500))
    assert math.isnan(drifted(expected, [0.5] * (LEAST - 1))) and math.isnan(drifted((), [0.5] * LEAST))
    fresh = RNG.random(WINDOW).tolist()
    assert drifted(expected, [0.0] * 3000 + fresh) == drifted(expected, fresh)


@given(st.lists(st.floats(0, 1), min_size=LEAST, max_size=LEAST + 50), st.lists(st.floats(0, 1), min_size=5, max_size=50))
def test_the_value_is_the_gap_at_the_deciles(masses, seen):
    expected = deciles(seen)
    gaps = [0.0]
    for at, limit in enumerate(expected, 1):
        gaps += [at / 10 - np.mean(np.array(masses) <= limit), np.mean(np.array(masses) < limit) - at / 10]
    assert drifted(expected, masses) == pytest.approx(max(gaps))
