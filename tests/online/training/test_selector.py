"""What is learned from, what anchors, and that no label decides it."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from guard.calibration import Bands
from guard.openings import Openings
from guard.sense import Sense
from online.model.opening_trees import tree_mass
from online.model.residual import residuals
from online.training import selector
from online.training.selector import SURE, Selection, select
from tests.online.tiny_model import random_prompts, tiny_llm


@pytest.fixture
def selection() -> Selection:
    masses = tuple(i / 100 for i in range(100))
    return Selection.sorted_by(Bands(0.5, 0.8), [(i,) for i in range(100)], masses)


def test_bands_are_those_of_the_frozen_base() -> None:
    llm, prompts, openings = tiny_llm(), random_prompts(30), Openings(((5,), (6, 7), (8,)))
    with torch.no_grad():
        masses = tree_mass(llm, prompts, openings)
    bands = Bands(float(masses.quantile(0.3)), float(masses.quantile(0.7)))
    found = select(llm, prompts, openings, bands)
    for name in ("high", "grey", "low"):
        assert getattr(found, name) == tuple(i for i, m in enumerate(masses.tolist()) if bands.band(m) == name)
    assert sum(map(len, (found.high, found.grey, found.low))) == 30


def test_a_screen_teaches_the_high_band_and_steers_what_lies_just_below(selection: Selection) -> None:
    screen = selection.screen(0, contested=4, others=40, seed=0)
    assert len(screen.contested) == 4 and set(screen.contested) <= set(selection.high)
    assert len(screen.below) == 4 and not set(screen.below) & set(selection.high)
    assert set(screen.anchors) <= set(selection.low) and not set(screen.anchors) & set(screen.below)
    assert min(selection.masses[i] for i in screen.below) > max(selection.masses[i] for i in screen.anchors)


def test_every_contested_prompt_has_its_turn_before_any_returns(selection: Selection) -> None:
    turns = [i for step in range(5) for i in selection.screen(step, contested=4, others=0, seed=3).contested]
    assert len(selection.high) < 20 < len(turns) + 1
    assert set(turns[: len(selection.high)]) == set(selection.high)


def test_others_beside_it_anchor_or_are_steered_and_nothing_is_learned_from_them() -> None:
    mine = Selection.sorted_by(Bands(0.5, 0.8), [(1,), (2,), (3,)], [0.9, 0.6, 0.1])
    others = Selection.sorted_by(Bands(0.5, 0.8), [(3,), (4,), (5,), (6,)], [0.3, 0.95, 0.7, 0.2])
    both = mine.beside(others)
    assert both.prompts == ((1,), (2,), (3,), (5,), (6,)) and both.masses == (0.9, 0.6, 0.1, 0.7, 0.2)
    assert (both.high, both.grey, both.low) == ((0,), (1, 3), (2, 4)) and both.harms is None
    sure = Selection.sorted_by(Bands(0.5, 0.8), [(7,), (8,)], [0.1, 0.9], [-SURE, 0.0])
    assert Selection.sorted_by(Bands(0.5, 0.8), [(1,)], [0.9], [SURE]).beside(sure).harms == (SURE, -SURE)


def test_with_the_harm_sense_each_corner_is_taught_what_is_its_and_grey_teaches_nothing() -> None:
    masses = [0.1, 0.6, 0.9] * 4
    harms = [SURE] * 3 + [-SURE] * 3 + [SURE - 0.01] * 3 + [math.nan] * 3
    found = Selection.sorted_by(Bands(0.5, 0.8), [(i,) for i in range(12)], masses, harms)
    assert (found.high, found.grey, found.low) == ((1, 2), (4, 5), (3,))
    screen = found.screen(0, contested=2, others=9, seed=0)
    assert set(screen.contested) == {1, 2} and set(screen.below) == {4, 5} and screen.anchors == (3,)
    some = found.only([0, 2, 4, 7])
    assert (some.high, some.grey, some.low, some.harms) == ((1,), (2,), (), (SURE, SURE, -SURE, SURE - 0.01))


def test_harm_is_read_on_the_base_whoever_is_asked_for_masses() -> None:
    llm, prompts, openings = tiny_llm(), random_prompts(20), Openings(((5,), (6, 7), (8,)))
    streams = residuals(llm, prompts, (1, 2)).numpy()
    weights = np.random.default_rng(0).normal(size=streams.shape[1:]).astype(np.float32)
    sense = Sense((1, 2), 20 * weights, 0.0)
    found = select(llm, prompts, openings, Bands(0.01, 0.02), sense=sense)
    assert found.harms == pytest.approx([sense.read(x) for x in streams], rel=1e-4)
    assert found.high and all(found.harms[i] >= SURE for i in found.high)
    assert all(found.harms[i] <= -SURE for i in (*found.grey, *found.low))
    assert select(llm, prompts, openings, Bands(0.01, 0.02)).harms is None


def test_without_a_high_band_there_is_nothing_to_learn_from_and_no_error() -> None:
    screen = Selection.sorted_by(Bands(0.5, 0.8), [(1,), (2,)], [0.1, 0.6]).screen(3, contested=4, others=9, seed=0)
    assert screen.contested == () and set(screen.below) == {0, 1}


def test_a_screen_depends_on_seed_and_step_alone(selection: Selection) -> None:
    take = {"contested": 4, "others": 40}
    assert selection.screen(2, seed=1, **take) == selection.screen(2, seed=1, **take)
    assert selection.screen(2, seed=1, **take) != selection.screen(3, seed=1, **take)
    assert selection.screen(2, seed=1, **take) != selection.screen(2, seed=2, **take)


def test_no_label_is_looked_at() -> None:
    source = inspect.getsource(selector)
    assert not any(word in source for word in ("verdict", "evaluation", "judge", "kind"))
