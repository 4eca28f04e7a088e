"""Signals are what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.signals import Signals, log_odds

NAN = math.nan


@given(st.lists(st.floats(0, 12), min_size=1, max_size=40))
def test_signals_are_their_definitions(entropies):
    signals = Signals()
    for entropy in entropies:
        signals.step(entropy, NAN, decided=True)
    assert signals.mean == pytest.approx(np.mean(entropies)) and signals.max == max(entropies)
    slope = np.polyfit(range(len(entropies)), entropies, 1)[0] if len(entropies) > 1 else 0.0
    assert signals.slope == pytest.approx(slope, abs=1e-9)


def test_mass_is_the_decisions_and_along_the_largest_after_it():
    signals = Signals()
    for mass, decided in ((0.2, False), (0.6, False), (0.1, True), (0.3, True), (NAN, True), (0.2, True)):
        signals.step(1.0, mass, decided=decided)
    assert signals.first == log_odds(0.2) and signals.mass == log_odds(0.6) and signals.along == log_odds(0.3)


def test_log_odds_are_finite_at_the_ends_and_nan_stays():
    assert log_odds(0.0) == pytest.approx(-log_odds(1.0)) and math.isfinite(log_odds(1.0)) and math.isnan(log_odds(NAN))
