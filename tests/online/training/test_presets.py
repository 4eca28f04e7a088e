"""Presets: the published setting, and each reward."""

from __future__ import annotations

import pytest
import torch

from guard.openings import Openings
from online.model.sample import Sample
from online.settings.groups import PUBLISHED, UpdateSettings
from online.training import presets
from online.training.presets import PRESETS

OPENINGS = Openings(((5,), (6, 7), (8,), (9, 10)))


def test_paper_comes_with_the_published_setting_where_nothing_else_is_given() -> None:
    paper = UpdateSettings(preset="paper", group_size=8)
    assert (paper.tune, paper.learning_rate, paper.group_size) == (PUBLISHED["tune"], 1e-6, 8)
    assert UpdateSettings().tune == "lora" and set(UpdateSettings.model_fields["preset"].annotation.__args__) == set(PRESETS)


REWARDS = {
    "entropy": [-1.5, -0.2],
    "negated": [1.5, 0.2],
    "perplexity": [-2.0, -0.1],
    "opening": [0.0, 1.0],
}


@pytest.mark.parametrize("name", REWARDS)
def test_each_reward(name: str) -> None:
    samples = [
        Sample(0, (7, 7), (1.0, 2.0), (-1.0, -3.0)),
        Sample(0, (6, 7, 2), (0.1, 0.2, 0.3), (-0.1, -0.1, -0.1)),
    ]
    found = getattr(presets, name)(samples, OPENINGS, torch.Generator())
    torch.testing.assert_close(found, torch.tensor(REWARDS[name]))


def test_the_random_reward_is_the_same_for_a_step_and_says_nothing_of_the_samples() -> None:
    samples = [Sample(0, (5,), (0.0,), (0.0,))] * 4000
    found = [presets.chance(samples, OPENINGS, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert abs(found[0].mean()) < 0.08 and abs(found[0].std() - 1) < 0.08
