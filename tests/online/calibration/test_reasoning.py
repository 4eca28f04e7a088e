"""Reasoning at calibration: its marks, and what stands before an answer."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from guard.reasoning import Reasoning
from online.calibration.reasoning import MARKS, behind_reasoning, marks
from tests.online.tiny_model import END, random_prompts, tiny_llm


def tokenizer(*words: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(("?", *words))}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


@pytest.mark.parametrize("pair", MARKS)
def test_the_marks_of_each_family_are_known_with_all_blank_tokens(pair: tuple[str, str]) -> None:
    assert marks(tokenizer("a", pair[0], "\n", pair[1], "b", " ")) == Reasoning(2, 4, frozenset({3, 6}))


def test_half_a_pair_and_a_mark_of_several_tokens_are_none() -> None:
    assert marks(tokenizer("a", "<think>")) is None and marks(tokenizer("<", "think", ">", "</", "think>")) is None


def test_a_prompt_goes_on_with_what_comes_before_the_answer_and_ends_with_the_mark() -> None:
    llm, prompts = tiny_llm(), random_prompts(6)
    start, end = 7, 8
    opened = [(*prompt, start) for prompt in prompts]
    found, used = behind_reasoning(llm, opened, Reasoning(start, end, frozenset()), max_tokens=5, seed=0)
    assert used
    for prompt, one in zip(opened, found, strict=True):
        told = one[len(prompt) :]
        assert one[: len(prompt)] == prompt and told.count(end) == 1 and told[-1] == end and END not in told
        assert len(told) <= 5 + 1, "a reasoning that is longer is closed"
