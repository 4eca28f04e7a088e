"""Scores are exact masses and likelihoods, and no answer is drawn for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation import Prompt
from guard.openings import Openings
from online.gate import scores
from online.gate.held_out import HeldOut
from online.gate.scores import score
from online.model.opening_trees import tree_mass
from tests.online.gate.labelled import suite
from tests.online.tiny_model import tiny_llm


def test_masses_are_those_of_the_tree_and_tasks_have_a_likelihood_in_their_place() -> None:
    prompts = [*suite(3), Prompt("known", "task", suite(1)[0].messages, answer="w7 w8")]
    llm, openings, traffic = tiny_llm(), Openings(((5,), (6, 7))), [(5, 9), (6, 11, 12)]
    found = score(llm, HeldOut(prompts, traffic=traffic), openings)
    task = np.array([prompt.kind == "task" for prompt in prompts])
    assert np.isnan(found.mass[task]).all() and np.isnan(found.likelihood[~task]).all() and found.likelihood[-1] < 0
    with torch.no_grad():
        whole = tree_mass(llm, [llm.render(p.messages) for p in prompts], openings).double().numpy()
        live = tree_mass(llm, traffic, openings).double().numpy()
    np.testing.assert_allclose(found.mass[~task], whole[~task], rtol=1e-5)
    np.testing.assert_allclose(found.live, live, rtol=1e-5)


def test_nothing_is_held_out_and_nothing_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "likelihood", lambda llm, prompts, asked: np.zeros(len(prompts)))
    found = score(tiny_llm(), HeldOut([]), Openings(((5,),)))
    assert len(found.mass) == len(found.live) == 0
