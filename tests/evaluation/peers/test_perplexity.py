"""The filter by a tiny model, held against plain forward passes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import torch

from evaluation.endpoint import Reply
from evaluation.peers import PeerError, defended
from evaluation.peers.perplexity import Perplexity, threshold
from evaluation.peers.refusal import REFUSAL
from evaluation.peers.scorer import Scorer
from tests.evaluation.peers.simulated import ANSWER, TEXT, TOKENS, Simulated, ask, question
from tests.online.tiny_model import save_tiny, tiny_llm


def test_a_window_finds_a_strange_end_that_the_mean_hides(llm):
    """Of the model's own likeliest words, and three of its least likely behind them."""
    words = [*range(3, 10), *range(30, 40)]
    ids = [3]
    for pick in [torch.argmax] * 20 + [torch.argmin] * 3:
        with torch.no_grad():
            ids.append(words[int(pick(llm.model(torch.tensor([ids])).logits[0, -1, words]))])
    usual, strange = (" ".join(f"w{token}" for token in part) for part in (ids[1:21], ids[1:]))
    whole, window = Scorer(llm), Scorer(llm, 3)
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
    limit = Scorer(tiny_llm())(TEXT)
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
