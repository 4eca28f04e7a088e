"""Looks share out an error and an exam."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from online.gate.held_out import HeldOut
from online.gate.look import Look, looks
from tests.online.gate.labelled import suite


@pytest.mark.parametrize("of", [1, 2, 3, 6])
def test_looks_together_spend_the_whole_error(of: int) -> None:
    every = [Look(number, of) for number in range(1, of + 1)]
    spent = [look.error(0.05) for look in every]
    assert sum(spent) == pytest.approx(0.05) and spent == sorted(spent) and spent[0] > 0
    assert [look.share for look in every] == [2.0 ** (number - of) for number in range(1, of + 1)]
    assert [look.last for look in every] == [False] * (of - 1) + [True] and every[0].end == every[-1]


def test_each_look_adds_a_share_of_every_class_and_of_live_traffic_and_the_first_whole_suites() -> None:
    prompts, theirs = suite(40), [replace(p, id=f"theirs {p.id}") for p in suite(5)]
    held_out = HeldOut(prompts, {"a": theirs[:10]}, {"b": theirs[10:]}, [(1, at) for at in range(20)])
    found = [rows for _, rows in looks(held_out, 3, "luck")]
    assert sorted(np.concatenate([rows.asked for rows in found])) == list(range(225)), "each prompt at one look"
    assert [len(rows.traffic) for rows in found] == [5, 5, 10]
    for rows, count in zip(found, (10, 10, 20), strict=True):
        part = held_out.some(rows)
        assert set(Counter(p.over_refusal_class or p.kind for p in part.prompts).values()) == {count}
    first = held_out.some(found[0])
    assert first.suites["a"] == theirs[:10] and first.vetoes["b"] == theirs[10:], "every one of them has its say"
    assert all(rows.asked.max() < len(prompts) for rows in found[1:]), "and later looks ask no more of them"
    assert first.asked == [held_out.asked[row] for row in found[0].asked]
    other = [rows for _, rows in looks(held_out, 3, "other luck")]
    assert list(other[0].asked) != list(found[0].asked) and list(found[0].asked[:10]) != list(range(10))


def test_an_exam_of_one_prompt_is_asked_at_once() -> None:
    (first, second) = (rows for _, rows in looks(HeldOut(suite(1)[:1]), 2, ""))
    assert list(first.asked) == [0] and len(second.asked) == 0
