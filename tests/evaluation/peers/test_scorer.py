"""How surprising a language model finds a text."""

from __future__ import annotations

import pytest
import torch

from evaluation.peers.scorer import Scorer, highest, placed, surprises
from online.model.local_model import LocalModel
from tests.evaluation.peers.simulated import TEXT
from tests.online.tiny_model import tiny_llm

NEAR = pytest.approx


def plain(llm: LocalModel, ids: list[int], first: int) -> list[float]:
    with torch.no_grad():
        logprobs = llm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(logprobs[at - 1, ids[at]]) for at in range(first, len(ids))]


def test_the_surprise_is_of_the_messages_tokens_behind_the_templates(llm):
    assert placed(llm, TEXT) == ([3, 9, 31, 32, 30, 9], 1), "w3 opens the template, w4 ends the message"
    assert surprises(llm, TEXT) == NEAR(plain(llm, [3, 9, 31, 32, 30, 9], 1), abs=1e-4)
    assert Scorer(llm)(TEXT) == NEAR(sum(surprises(llm, TEXT)) / 5)


def test_without_a_template_the_first_token_is_not_counted():
    bare = tiny_llm()
    bare.tokenizer.chat_template = None
    assert surprises(bare, TEXT) == NEAR(plain(bare, [9, 31, 32, 30, 9], 1), abs=1e-4)
    assert surprises(bare, "w9") == []


def test_a_template_that_changes_the_text_is_counted_whole():
    other = tiny_llm()
    other.tokenizer.chat_template = "w3 {{ messages[0]['content'] | upper | replace('W', 'w') | replace(' ', ' w5 ') }}"
    assert placed(other, "w9 w8 w7") == ([3, 9, 5, 8, 5, 7], 1)


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_is_no_surprise(llm, text):
    assert surprises(llm, text) == [] and Scorer(llm, 3)(text) == 0


def test_a_text_longer_than_the_context_is_read_as_far_as_there_is_room(llm):
    found = surprises(llm, "w7 " * 400)
    assert len(found) == 255 and all(value == value for value in found)


def test_windows():
    values = [0.0, 0.0, 3.0, 9.0, 0.0, 0.0, 8.0]
    assert highest(values, 0) == NEAR(20 / 7) == highest(values, 7) == highest(values, 99)
    assert highest(values, 2) == 6.0, "(0, 0), (3, 9), (0, 0) and (0, 8): the cuts are the paper's"
    assert highest(values, 3) == NEAR(3.0) and highest(values, 4) == NEAR(17 / 4) and highest([], 3) == 0
    assert highest(values, 1) == 9.0
