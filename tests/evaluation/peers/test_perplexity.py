"""The filter by a tiny model, held against plain forward passes."""

import asyncio
import threading
import time

import pytest
import torch

from evaluation.endpoint import Reply
from evaluation.peers import PeerError, defended
from evaluation.peers.perplexity import Perplexity, threshold
from evaluation.peers.refusal import REFUSAL
from evaluation.peers.scorer import Scorer, highest, placed, surprises
from online.model.local_model import LocalModel
from tests.evaluation.peers.simulated import ANSWER, TOKENS, Simulated, ask, question
from tests.online.tiny_model import save_tiny, tiny_policy

NEAR = pytest.approx
TEXT = "w9 w31 w32 w30 w9"
"""No w0, w1 or w2 within a word: those are marks."""


@pytest.fixture(scope="module")
def policy() -> LocalModel:
    return tiny_policy()


def plain(policy: LocalModel, ids: list[int], first: int) -> list[float]:
    with torch.no_grad():
        logprobs = policy.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [-float(logprobs[at - 1, ids[at]]) for at in range(first, len(ids))]


def test_the_surprise_is_of_the_messages_tokens_behind_the_templates(policy):
    assert placed(policy, TEXT) == ([3, 9, 31, 32, 30, 9], 1), "w3 opens the template, w4 ends the message"
    assert surprises(policy, TEXT) == NEAR(plain(policy, [3, 9, 31, 32, 30, 9], 1), abs=1e-4)
    assert Scorer(policy)(TEXT) == NEAR(sum(surprises(policy, TEXT)) / 5)


def test_without_a_template_the_first_token_is_not_counted():
    bare = tiny_policy()
    bare.tokenizer.chat_template = None
    assert surprises(bare, TEXT) == NEAR(plain(bare, [9, 31, 32, 30, 9], 1), abs=1e-4)
    assert surprises(bare, "w9") == []


def test_a_template_that_changes_the_text_is_counted_whole():
    other = tiny_policy()
    other.tokenizer.chat_template = "w3 {{ messages[0]['content'] | upper | replace('W', 'w') | replace(' ', ' w5 ') }}"
    assert placed(other, "w9 w8 w7") == ([3, 9, 5, 8, 5, 7], 1)


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_is_no_surprise(policy, text):
    assert surprises(policy, text) == [] and Scorer(policy, 3)(text) == 0


def test_a_text_longer_than_the_context_is_read_as_far_as_there_is_room(policy):
    found = surprises(policy, "w7 " * 400)
    assert len(found) == 255 and all(value == value for value in found)


def test_windows():
    values = [0.0, 0.0, 3.0, 9.0, 0.0, 0.0, 8.0]
    assert highest(values, 0) == NEAR(20 / 7) == highest(values, 7) == highest(values, 99)
    assert highest(values, 2) == 6.0, "(0, 0), (3, 9), (0, 0) and (0, 8): the cuts are the paper's"
    assert highest(values, 3) == NEAR(3.0) and highest(values, 4) == NEAR(17 / 4) and highest([], 3) == 0
    assert highest(values, 1) == 9.0


def test_a_window_finds_a_strange_end_that_the_mean_hides(policy):
    """Of the model's own likeliest words, and three of its least likely behind them."""
    words = [*range(3, 10), *range(30, 40)]
    ids = [3]
    for pick in [torch.argmax] * 20 + [torch.argmin] * 3:
        with torch.no_grad():
            ids.append(words[int(pick(policy.model(torch.tensor([ids])).logits[0, -1, words]))])
    usual, strange = (" ".join(f"w{token}" for token in part) for part in (ids[1:21], ids[1:]))
    whole, window = Scorer(policy), Scorer(policy, 3)
    assert window(strange) - window(usual) > 5 * (whole(strange) - whole(usual)) > 0
    limit = max(window(usual), whole(strange)) + 0.01
    answers = [ask(Perplexity(Simulated(), one, limit), strange).text for one in (whole, window)]
    assert answers == [ANSWER, REFUSAL]


def test_over_the_threshold_is_refused_and_at_it_is_not():
    target = Simulated()
    guard = Perplexity(target, {"a": 1.0, "b": 2.0, "c": 2.1}.__getitem__, 2.0, "No.")
    assert [ask(guard, text) for text in "abc"] == [Reply(ANSWER, TOKENS), Reply(ANSWER, TOKENS), Reply("No.")]
    assert target.heard == ["a", "b"]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_the_threshold_is_the_lowest_that_keeps_the_rate(rate, count):
    scores = torch.rand(count, generator=torch.Generator().manual_seed(3)).tolist()
    limit = threshold(scores, rate)
    over = sum(score > limit for score in scores)
    assert limit in scores and over <= rate * count + 1e-9 and over + 1 > rate * count + 1e-9


def test_a_threshold_by_scores_that_are_alike_and_of_none():
    assert threshold([2.0, 2.0, 2.0, 1.0], 0.25) == 2.0 and threshold([5.0, 1.0, 3.0], 0) == 5.0
    for scores, rate in (([], 0.1), ([1.0], 1.0), ([1.0], -0.1), ([1.0], float("nan"))):
        with pytest.raises(PeerError, match="score some prompts"):
            threshold(scores, rate)


def test_a_model_is_loaded_from_a_folder_by_its_spec(tmp_path):
    folder = save_tiny(tmp_path / "a@b")
    limit = Scorer(tiny_policy())(TEXT)
    let, stopped = (defended(f"perplexity:{folder}@{limit + by}", Simulated()) for by in (0.001, -0.001))
    assert (ask(let, TEXT).text, ask(stopped, TEXT).text) == (ANSWER, REFUSAL)
    windowed = defended(f"perplexity:{folder}@{limit},window=2", Simulated())
    assert windowed.scorer.window == 2 and ask(windowed, TEXT).text == REFUSAL
    with pytest.raises(PeerError, match="cannot be loaded"):
        defended(f"perplexity:{tmp_path / 'none'}@4", Simulated())


def test_one_is_scored_at_a_time_and_none_waits_for_it_on_the_loop():
    busy, threads = threading.Lock(), set()

    def scorer(text: str) -> float:
        assert busy.acquire(blocking=False), "two at once"
        threads.add(threading.get_ident())
        time.sleep(0.002)
        busy.release()
        return float(text)

    guard = Perplexity(Simulated(), scorer, 4.5)

    async def crowd() -> list[Reply]:
        return await asyncio.gather(*(guard.ask(question(str(n)), n) for n in range(10)))

    assert [reply.text == REFUSAL for reply in asyncio.run(crowd())] == [n > 4 for n in range(10)]
    assert threading.get_ident() not in threads
