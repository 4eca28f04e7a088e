"""Prompts of the model's own: turns of users as it goes on with them, rendered as clients' are."""

from __future__ import annotations

import pytest

import models
from evaluation import load_suite
from online.model.local_model import LocalModel
from online.training.own_prompts import beginning, own_prompts, rendered


@pytest.fixture(scope="module")
def llm() -> LocalModel:
    return LocalModel.load(models.bundled())


def test_they_are_distinct_whole_turns_behind_the_template(llm: LocalModel) -> None:
    found = own_prompts(llm, 40, seed=0)
    assert len(found) == len(set(found)) == 40 and found == sorted(found)
    start, empty = beginning(llm), llm.render([{"role": "user", "content": ""}])
    assert start == empty[: len(start)] and len(start) > 0
    end = empty[len(start) :]
    assert all(prompt[: len(start)] == start and prompt[-len(end) :] == end for prompt in found)
    words = [llm.text(prompt[len(start) : -len(end)]) for prompt in found]
    assert all(text == text.strip() and text for text in words)
    asked = {prompt.text for prompt in load_suite(models.suite("traffic"))}
    assert len(set(words) - asked) > 20, "most are nobody's"


def test_a_seed_fixes_them_and_another_one_has_others(llm: LocalModel) -> None:
    first = own_prompts(llm, 12, seed=0)
    assert first == own_prompts(llm, 12, seed=0) and not set(first) & set(own_prompts(llm, 12, seed=1))


def test_none_are_wanted_none_drawn(llm: LocalModel, monkeypatch) -> None:
    monkeypatch.setattr("online.training.own_prompts.generate", None)
    assert own_prompts(llm, 0, seed=0) == []


def test_a_model_that_ends_no_turn_has_none_and_is_not_asked_for_ever(llm: LocalModel, monkeypatch) -> None:
    monkeypatch.setattr("online.training.own_prompts.TOKENS", 1)
    assert own_prompts(llm, 12, seed=0) == []


def test_without_a_template_there_are_none(monkeypatch) -> None:
    bare = LocalModel.load(models.bundled())
    bare.tokenizer.chat_template = None
    assert beginning(bare) == () and own_prompts(bare, 12, seed=0) == []


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_turn_that_says_nothing_or_is_not_over_is_none(llm: LocalModel, text: str) -> None:
    tokens, end = llm.tokenizer.encode(text, add_special_tokens=False), int(llm.ends[0])
    assert rendered(llm, (*tokens, end)) is None and rendered(llm, tokens) is None
    said = llm.tokenizer.encode("What does a cat say?", add_special_tokens=False)
    assert rendered(llm, said) is None
    assert rendered(llm, (*said, end)) == llm.render([{"role": "user", "content": "What does a cat say?"}])
