"""What many prompts begin with is found in their tokens alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from guard.openings import Tokens
from online.admission.common_prefix import WORDS, common_length, common_prefixes

HEAD, FOOT = (1, 2), (4, 1, 5)
"""Marks of a template: what begins a turn of the system's, what ends the user's and begins the answer."""


def words(seed: int, count: int) -> Tokens:
    return tuple(random.Random(seed).sample(range(1000, 9000), count))


def prompts(count: int, system: Tokens, *, seed: int = 0) -> list[Tokens]:
    """Questions of three to nine words under a system prompt, which ends with the mark that ends every turn."""
    return [(*HEAD, *system, 4, 1, 3, *words(seed + at, 3 + at % 7), *FOOT) for at in range(count)]


def lengths(found: Sequence[Tokens]) -> set[int]:
    prefixes = common_prefixes(found)
    return {common_length(tokens, prefixes) for tokens in found}


def test_a_system_prompt_is_common_to_the_last_mark_behind_it() -> None:
    for size in (5, 20, 400):
        (length,) = lengths(prompts(60, words(-1, size)))
        assert len(HEAD) + size + 1 <= length <= len(HEAD) + size + 3, "up to a mark, and no word of a user's"


def test_several_system_prompts_are_each_common() -> None:
    both = [*prompts(60, words(-1, 50)), *prompts(40, words(-2, 80), seed=100)]
    assert {round(length, -1) for length in lengths(both)} == {50, 80}


def test_a_date_in_a_system_prompt_is_bridged() -> None:
    """A template that tells the day, over thirty of them."""
    dated = [(*one[:10], 9500 + at % 30, 9600 + at % 12, *one[12:]) for at, one in enumerate(prompts(300, words(-1, 80)))]
    assert min(lengths(dated)) >= 80


def test_users_who_begin_alike_have_few_words_in_common_and_keep_them() -> None:
    alike = [(*HEAD, 4, 1, 3, 50, 51, 52, *words(at, 6), *FOOT) for at in range(60)]
    assert max(lengths(alike)) <= 5
    long = [(*HEAD, 4, 1, 3, *range(100, 100 + WORDS), *words(at, 6), *FOOT) for at in range(60)]
    assert lengths(long) == {5 + WORDS}, "an application's own template, written into the user's turn"


def test_traffic_that_has_nothing_in_common_keeps_all() -> None:
    assert lengths([words(at, 12) for at in range(100)]) == {0} and common_prefixes([]) == []
    assert lengths(prompts(7, words(-1, 100))) == {0}, "too few to tell"


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=60).map(tuple), min_size=1, max_size=40))
def test_something_is_left_of_every_prompt(found: list[Tokens]) -> None:
    prefixes = common_prefixes(found)
    assert all(0 <= common_length(one, prefixes) < len(one) for one in found)
