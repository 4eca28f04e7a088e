"""What a model answers to what is held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig

from evaluation import Outcome, Prompt
from online.gate.answers import Answers, answer, repeats
from online.gate.held_out import HeldOut
from online.model.decoding import generate
from tests.online.gate.labelled import suite
from tests.online.tiny_model import END, tiny_llm


class Words:
    def judge(self, prompt: Prompt, response: str) -> Outcome:
        return Outcome.REFUSAL if response.startswith("w5") else Outcome.ANSWER


def test_every_prompt_is_asked_both_ways() -> None:
    prompts, llm = suite(3), tiny_llm()
    found = answer(llm, HeldOut(prompts), Words(), max_tokens=8, task_tokens=8)
    assert len(found.sampled) == len(found.greedy) == len(prompts) and not len(found.live_kl)
    assert (found.length <= 8).all() and found.variety >= 1
    again = answer(llm, HeldOut(prompts), Words(), max_tokens=8, task_tokens=8)
    assert found.sampled == again.sampled and found.greedy == again.greedy
    said = generate(llm, [llm.render(p.messages) for p in prompts], max_tokens=8)
    assert found.opening == tuple(s.tokens[:4] for s in said) and found.length.tolist() == [len(s.tokens) for s in said]


def test_tasks_have_a_length_of_their_own() -> None:
    prompts, llm = suite(6), tiny_llm()
    task = np.array([prompt.kind == "task" for prompt in prompts])
    short, long = (answer(llm, HeldOut(prompts), Words(), max_tokens=4, task_tokens=limit) for limit in (4, 24))
    assert (long.length[task] > 4).any() and (long.length[~task] == short.length[~task]).all() and (short.length <= 4).all()
    assert long.opening == short.opening, "a prompt's luck is its own, whatever the others' limits are"
    said = generate(llm, [llm.render(prompt.messages) for prompt in prompts], temperature=0, max_tokens=24)
    assert (short.cut == [len(s.tokens) > 4 for s in said]).all() and short.cut.any()
    assert (long.cut[task] == [s.tokens[-1] != END for s, of in zip(said, task, strict=True) if of]).all()


def test_on_live_traffic_the_base_is_as_far_from_itself_as_nothing() -> None:
    llm = tiny_llm()
    traffic = [(5, at % 30 + 5, at // 30 + 6) for at in range(40)]
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.no_grad():
        for index, parameter in enumerate(llm.add_adapter("a", config)):
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(index))
    found: dict[str | None, Answers] = {}
    for name in (None, "a"):
        with llm.adapter(name):
            found[name] = answer(llm, HeldOut(suite(1), traffic=traffic), Words(), max_tokens=8)
    base, moved = found[None], found["a"]
    assert len(base.live_length) == len(base.live_kl) == 40 and not base.live_kl.any()
    assert (moved.live_kl > 0).all() and moved.live_kl.mean() > 0.01
    with torch.no_grad(), llm.adapter("a"):
        said = generate(llm, traffic, max_tokens=8, seed=0)[7].tokens
        mine = llm.response_logits(traffic[7:8], [said])[0].whole()[0].double().numpy()
    base_logits = llm.response_logits(traffic[7:8], [said])[0].whole()[0].detach().double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (mine, base_logits))
    assert moved.live_kl[7] == pytest.approx((p * np.log(p / q)).sum(), abs=1e-4)


def test_a_4_gram_may_come_twice() -> None:
    assert not repeats([1, 2, 3, 4] * 2) and repeats([1, 2, 3, 4] * 3) and not repeats([])
