"""Prompts that nearly repeat one another count once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.admission.near_duplicates import jaccard, shingles, without_near_duplicates
from online.admission.queue import distinct
from online.events.buffer import Buffer
from online.events.event import prompt_hash
from online.settings.settings import Settings
from tests.online.admission.waiting import NEW, SALT, event, fates, queue


def test_the_first_of_two_alike_counts_though_a_third_asks_it_again(buffer: Buffer) -> None:
    long = list(range(40))
    near = [*long[:20], 99, *long[21:]]
    buffer.append([event(0, long, NEW, "a"), event(1, near, NEW + 1, "b"), event(2, long, NEW + 2, "c")])
    assert fates(queue(buffer), [long, near]) == ["queued", "duplicate"]


def test_a_prompt_that_nearly_repeats_an_earlier_one_counts_once(buffer: Buffer) -> None:
    long = list(range(40))
    near, far = [*long[:20], 99, *long[21:]], [*long[:20], *range(200, 220)]
    buffer.append([event(0, long, NEW), event(1, near, NEW + 1), event(2, far, NEW + 2)])
    assert fates(queue(buffer), [long, near, far]) == ["queued", "duplicate", "queued"]
    lenient = Settings(queue={"similarity": 1.0})
    assert fates(queue(buffer, lenient), [long, near, far]) == ["queued"] * 3
    buffer.review("prompt", [prompt_hash(tuple(near), SALT)], "approved")
    assert fates(queue(buffer), [long, near]) == ["duplicate", "approved"]


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12).map(tuple), min_size=1, max_size=12, unique=True))
def test_what_is_kept_is_unlike_each_other_and_what_is_not_is_like_one_of_it(prompts: list[tuple[int, ...]]) -> None:
    events = [event(at, tokens, NEW + at) for at, tokens in enumerate(prompts)]
    found = without_near_duplicates(distinct(((event.id, event) for event in events), SALT), 0.8, SALT)
    kept = {one.prompt: shingles(one.tokens) for one in found if one.fate == "queued"}
    assert len(found) == len(prompts) and found[0].fate == "queued"
    for one in found:
        if one.fate == "duplicate":
            assert jaccard(shingles(one.tokens), kept[one.why.removeprefix("of ")]) >= 0.8
    pairs = [(a, b) for name, a in kept.items() for other, b in kept.items() if name < other]
    assert all(jaccard(a, b) < 0.8 for a, b in pairs)


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.97, 0.999, 1.0])
def test_any_similarity_can_be_asked_for(buffer: Buffer, similarity: float) -> None:
    buffer.append([event(0, [1, 2, 3]), event(1, [1, 2, 4]), event(2, [9])])
    assert queue(buffer, Settings(queue={"similarity": similarity})).counts()["queued"] >= 1
