"""Measurements packed into the words that vLLM ships."""

from __future__ import annotations

import pytest
import torch

from guard.openings import ROOT
from guard.packed_measurement import unpack
from serving.engine.packing import words_of
from tests.serving.engine.raw_logits import REASONS, VOCABULARY, expected, known


def test_what_may_stand_before_an_answer_is_left_out_of_the_mass_even_where_it_is_all_but_certain():
    openings, row = REASONS, torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    row[0, 10] = 60.0  # the model is about to think, beyond what single precision tells from certainty
    trees = known(a3=openings)
    words = words_of(row, trees, torch.tensor([trees.row(3, ROOT)]))
    mass = unpack(words.numpy() | 1)[1]
    assert mass == pytest.approx(expected(row, [openings], [ROOT]), abs=1e-4) and mass[0] > 0.01
