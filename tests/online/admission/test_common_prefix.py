"""What many prompts begin with is found in their tokens alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from guard.openings import Tokens
from online.admission.common_prefix import SAMPLE, WORDS, common_length, common_prefixes, turn_marks, weights

HEAD, FOOT = (1, 2), (4, 1, 5)
"""Marks of a template: what begins a turn of the system's, what ends the user's and begins the answer."""


def words(seed: int, count: int) -> Tokens:
    return tuple(random.Random(seed).sample(range(1000, 9000), count))


def prompts(count: int, system: Tokens, *, seed: int = 0) -> list[Tokens]:
    """Questions of three to nine words under a system prompt, which ends with the mark that ends every turn."""
    return [(*HEAD, *system, 4, 1, 3, *words(seed + at, 3 + at % 7), *FOOT) for at in range(count)]


ADDED = {1, 4}


def each(found: Sequence[Tokens]) -> dict[Tokens, float]:
    """Every prompt of a sender of its own."""
    return weights((tokens, {str(at)}) for at, tokens in enumerate(found))


def lengths(found: Sequence[Tokens]) -> set[int]:
    prefixes = common_prefixes(each(found), ADDED)
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
    assert lengths([words(at, 12) for at in range(100)]) == {0} and common_prefixes({}, ADDED) == []
    assert lengths(prompts(7, words(-1, 100))) == {0}, "too few to tell"


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=60).map(tuple), min_size=1, max_size=40))
def test_something_is_left_of_every_prompt(found: list[Tokens]) -> None:
    prefixes = common_prefixes(each(found), ADDED)
    assert all(0 <= common_length(one, prefixes) < len(one) for one in found)


def test_who_sends_more_makes_nothing_more_common() -> None:
    ordinary = [(tokens, {f"c{at % 20}"}) for at, tokens in enumerate(prompts(200, words(-1, 50)))]
    flood = [((*HEAD, *words(-2, 50), 4, 1, 3, *words(at, 5), *FOOT), {"c0", "c1"}) for at in range(2000)]
    prefixes = common_prefixes(weights([*ordinary, *flood]), ADDED)
    assert {common_length(tokens, prefixes) for tokens, _ in flood} == {0}
    assert min(common_length(tokens, prefixes) for tokens, _ in ordinary) > 50, "and nobody's prefix is pushed out"


def test_each_sender_counts_for_one_and_few_prompts_are_looked_at() -> None:
    many = {"many": [(1, at) for at in range(9000)], "few": [(2, at) for at in range(3)]}
    found = weights((tokens, {name}) for name, own in many.items() for tokens in own)
    assert abs(sum(found.values()) - 2) < 1e-9 and len(found) <= SAMPLE
    assert abs(sum(weight for tokens, weight in found.items() if tokens[0] == 2) - 1) < 1e-9


def test_only_added_tokens_mark_a_turn() -> None:
    """A word of the template, or a line's end, would cut what users wrote behind it."""
    found = [(*HEAD, 50, 5, *words(at, 6), *FOOT) for at in range(60)]
    assert turn_marks(each(found), ADDED) == {4, 1} and lengths(found) == {1}
    assert turn_marks(each(found), ()) == frozenset()
