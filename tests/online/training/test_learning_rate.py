"""The learning rate follows the model's size unless it is given."""

from __future__ import annotations

import pytest

from online.settings.groups import UpdateSettings
from online.training.learning_rate import learning_rate

SIZES = {"sirl-tiny": 2_140_352, "0.5B": 494_032_768, "1.5B": 1_543_714_304, "3B": 3_212_749_824, "7B": 7_615_616_512}


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ({}, (2e-3, 1e-4, 1e-4, 1e-4, 5e-5)),
        ({"learning_rate": 5e-4}, (5e-4,) * 5),
        ({"tune": "full"}, (1e-6,) * 5),
        ({"preset": "paper"}, (1e-6,) * 5),
        ({"preset": "paper", "tune": "lora", "learning_rate": None}, (2e-3, 1e-4, 1e-4, 1e-4, 5e-5)),
    ],
)
def test_a_larger_model_learns_at_a_lower_rate_unless_one_is_given(given: dict, rates: tuple[float, ...]) -> None:
    settings = UpdateSettings(**given)
    assert tuple(learning_rate(settings, size) for size in SIZES.values()) == rates
