"""A linear read-out in closed form, chosen by leaving whole sources and their goals out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from evaluation.statistics import auroc
from online.calibration import read_out
from online.calibration.read_out import Examples, area, chosen, criterion, fit, spreads, validated


def examples(n: int = 120, hidden: int = 6, layers: int = 3, *, seed: int = 0, sources: int = 6) -> Examples:
    """Harm is written along the first width of layer 1; a source's own mark along the second."""
    luck = np.random.default_rng(seed)
    source, harmful = np.arange(n) % sources, luck.random(n) < 0.5
    streams = luck.normal(size=(n, layers, hidden))
    streams[:, 1, 0] += 2.5 * harmful
    streams[:, :, 1] += 4 * luck.normal(size=(sources, layers))[source]
    cells = ["bare" if bad else ("plain", "wrapped")[i % 2] for i, bad in enumerate(harmful)]
    return Examples(streams.astype(np.float32), harmful, cells, [f"s{s}" for s in source], [f"g{i}" for i in range(n)])


@pytest.mark.parametrize("n", [12, 120])
def test_both_forms_are_the_weighted_ridge_regression_of_standardised_streams(n):
    some = examples(n)
    x, share = some.streams[:, [0, 1]].reshape(n, -1).astype(float), some.shares()
    centre = share @ x
    z = (x - centre) / np.sqrt(share @ (x - centre) ** 2) / np.sqrt(x.shape[1])
    y = np.where(some.harmful, 1.0, -1.0)
    twin = minimize(lambda w: share @ (z @ w - y) ** 2 + 0.1 * w @ w, np.zeros(x.shape[1]), tol=1e-12).x
    found = fit(some, (0, 1), (0.1,))[0]
    np.testing.assert_allclose(found.of(some.streams), z @ twin, atol=1e-4)


def test_a_width_that_does_not_vary_gets_no_weight():
    some = examples()
    some.streams[:, 0, 3] = 7.0
    found = fit(some, (0,), (0.1,))[0]
    assert found.weights[0, 3] == 0 and np.isfinite(found.of(some.streams)).all()


def test_sides_weigh_the_same_and_cells_of_a_side_too():
    some = examples()
    share, cells = some.shares(), np.array(some.cells)
    assert share[some.harmful].sum() == pytest.approx(0.5)
    assert share[cells == "plain"].sum() == pytest.approx(0.25) == pytest.approx(share[cells == "wrapped"].sum())


def test_a_source_is_left_out_whole_and_with_it_its_goals():
    some = examples()
    some = dataclasses.replace(some, goals=["shared" if i % 17 == 0 else f"g{i}" for i in range(len(some))])
    sources, goals, covered = np.array(some.sources), np.array(some.goals), np.zeros(len(some), dtype=bool)
    for fitted, out in some.folds():
        assert not set(sources[fitted]) & set(sources[out]) and not set(goals[fitted]) & set(goals[out])
        covered |= out
    assert covered.all()


def test_a_single_source_cannot_be_left_out():
    some = dataclasses.replace(examples(), sources=["one"] * 120)
    assert list(some.folds()) == []
    assert np.isnan(validated(some, (1,), (0.1,)).scores).all()


def test_scores_out_of_fold_are_of_read_outs_that_never_saw_the_source():
    some = examples()
    before = validated(some, (1,), (0.1,)).scores
    mine = np.array(some.sources) == "s0"
    streams = some.streams.copy()
    changed = dataclasses.replace(some, harmful=some.harmful ^ mine, streams=streams)
    after = validated(changed, (1,), (0.1,)).scores
    np.testing.assert_allclose(before[mine], after[mine])  # its own labels say nothing of its scores
    assert not np.allclose(before[~mine], after[~mine])


def test_spreads_are_even_and_begin_with_the_middle():
    assert spreads(7) == [(3,), (0, 6), (0, 3, 6), (0, 2, 4, 6)]
    assert spreads(3) == [(1,), (0, 2), (0, 1, 2)] and spreads(2) == [(0,), (0, 1)] and spreads(1) == [(0,)]


def test_the_one_layer_that_carries_harm_is_enough():
    assert chosen(examples(400)).layers == (1,)


def test_more_layers_are_read_where_they_add(monkeypatch):
    luck = np.random.default_rng(1)
    some = examples(400)
    some.streams[:, [0, 2], 0] = luck.normal(size=(400, 2)) + 2.5 * some.harmful[:, None]
    assert chosen(some).layers == (0, 2)  # three are no better
    monkeypatch.setattr(read_out, "GAIN", 1.0)
    assert chosen(some).layers == (1,)


def test_the_criterion_is_the_mean_over_pairs_of_cells():
    some = examples()
    scores = some.streams[:, 1, 0].astype(float)
    cells = np.array(some.cells)
    by_hand = [area(scores[cells == low], scores[cells == "bare"]) for low in ("plain", "wrapped")]
    assert criterion(scores, some) == pytest.approx(np.mean(by_hand))
    assert criterion(np.full(len(some), np.nan), some) == 0.5


def test_the_area_is_the_auroc_with_ties():
    luck = np.random.default_rng(0)
    low, high = luck.integers(0, 5, 30).astype(float), luck.integers(2, 8, 20).astype(float)
    assert area(low, high) == pytest.approx(auroc(low, high).estimate)
