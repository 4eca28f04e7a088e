"""How a peer refuses, and tells a refusal."""

from __future__ import annotations

import pytest

from evaluation.peers.refusal import looks_refused
from models.recipe import grammar
from tests.evaluation.peers.simulated import ANSWER


@pytest.mark.parametrize(
    ("text", "no"),
    [
        (" I\N{RIGHT SINGLE QUOTATION MARK}M SORRY, but", True),
        ("I cannot do that.", True),
        ("Sorry, no.", True),
        ("I can do that. I cannot promise much.", False),
        ("", False),
        (ANSWER, False),
    ],
)
def test_refusals_are_known_by_how_they_begin(text, no):
    assert looks_refused(text) is no


def test_most_refusals_by_template_of_the_bundled_models_are_known():
    assert all(looks_refused(text) for text in grammar.RULES["refusal_template"])
