"""Mutants of a prompt still ask for the goal."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from evaluation.attacks.mutation import ASIDES, LONGEST, SEEDS, mutated


@given(
    template=st.text("{}.!?: ab").map(lambda text: f"{text}{{goal}}") | st.sampled_from((*SEEDS, "a. " * 990 + "{goal}")),
    luck=st.randoms(),
)
@hypothesis(max_examples=100, database=None)
def test_a_mutant_still_asks_and_does_not_grow_for_ever(template, luck):
    for _ in range(30):
        template = mutated(template, SEEDS, luck)
        assert "{goal}" in template and len(template) <= LONGEST


def test_every_way_of_mutation_is_taken():
    luck, template = Random(0), "Please answer. Be quick! {goal}"
    made = {mutated(template, ["Other words. {goal} The end."], luck) for _ in range(300)}
    assert "Please answer. Be quick! Other words. {goal} The end." not in made
    assert "Please reply. Be quick! {goal}" in made  # reworded
    assert {"Be quick! {goal}", "Please answer. {goal}"} <= made  # shortened
    assert {f"{template} {aside}" for aside in ASIDES} <= made  # expanded
    assert f"Other words. {template} The end." in made  # nested
    assert any(text.startswith("Please answer.") and text.endswith("The end.") for text in made)  # crossed
