"""Measurements packed into the words that vLLM ships."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guard.openings import ROOT
from guard.packed_measurement import unpack
from serving.engine.packing import HARM, with_harm, without_harm, words_of
from tests.serving.engine.raw_logits import REASONS, VOCABULARY, expected, known


def test_what_may_stand_before_an_answer_is_left_out_of_the_mass_even_where_it_is_all_but_certain():
    openings, row = REASONS, torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    row[0, 10] = 60.0  # the model is about to think, beyond what single precision tells from certainty
    trees = known(a3=openings)
    words = words_of(row, trees, torch.tensor([trees.row(3, ROOT)]))
    mass = unpack(words.numpy() | 1)[1]
    assert mass == pytest.approx(expected(row, [openings], [ROOT]), abs=1e-4) and mass[0] > 0.01


@pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported
@pytest.mark.parametrize("columns", [1, 4])
def test_what_was_read_where_a_prompt_ends_comes_home_with_its_row_and_leaves_the_logprobs_as_they_were(columns):
    from vllm.v1.outputs import LogprobsLists, LogprobsTensors

    ids = torch.arange(5 * columns, dtype=torch.int32).reshape(5, columns)
    ours = with_harm(LogprobsTensors(ids, -ids.float(), torch.ones(5)), [1, 4], torch.tensor([2.5, torch.nan]))
    assert ours.logprob_token_ids.dtype == torch.int32 and (ours.logprob_token_ids[:, -1] == HARM).all()
    found = []
    for row in range(5):
        one = LogprobsLists(*(tensor[row : row + 1].numpy() for tensor in ours[:3]))
        harm, lists = without_harm(one)
        found.append(harm)
        assert np.array_equal(lists.logprob_token_ids, ids[row : row + 1].numpy())
        assert np.array_equal(lists.logprobs, -ids[row : row + 1].numpy())
    assert found == [None, 2.5, None, None, None]
    plain = LogprobsLists(ids.numpy(), -ids.float().numpy(), np.ones(5))
    assert without_harm(plain) == (None, plain)
    empty = LogprobsLists(ids.numpy()[:0], -ids.float().numpy()[:0], np.ones(0))
    assert without_harm(empty) == (None, empty)
