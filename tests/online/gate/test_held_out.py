"""What is held out for a candidate, and what a model makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig

from evaluation import Outcome, Prompt
from guard.openings import Openings
from online.gate.held_out import HeldOut, draw_held_out, measure
from online.model.decoding import generate
from tests.online.gate.labelled import suite
from tests.online.tiny_model import END, tiny_policy


def test_prompts_are_capped_by_class() -> None:
    kept = draw_held_out(suite(9), 4)
    assert kept == [p for p in suite(9) if int(p.id.rsplit("-", 1)[1]) < (8 if p.kind == "task" else 4)]


def test_every_candidate_is_asked_prompts_of_its_own_draw() -> None:
    draws = [{p.id for p in draw_held_out(suite(60), 30, luck)} for luck in ("one", "two", "one")]
    assert draws[0] == draws[2] and len(draws[0]) == len(draws[1]) == 4 * 30 + 60
    drawn = [{name for name in draw if not name.startswith("task")} for draw in draws]
    assert 0.3 < len(drawn[0] & drawn[1]) / 120 < 0.7, "half of the prompts of a class are drawn"


def test_measure_asks_every_prompt_both_ways() -> None:
    class Words:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.REFUSAL if response.startswith("w5") else Outcome.ANSWER

    prompts, openings = suite(3), Openings(((5,), (6, 7)))
    policy = tiny_policy()
    found = measure(policy, HeldOut(prompts), Words(), openings, max_tokens=8, task_tokens=8)
    assert len(found.mass) == len(found.sampled) == len(found.greedy) == len(prompts)
    assert ((found.mass >= 0) & (found.mass <= 1)).all() and (found.length <= 8).all() and found.variety >= 1
    again = measure(policy, HeldOut(prompts), Words(), openings, max_tokens=8, task_tokens=8)
    assert found.sampled == again.sampled and (found.mass == again.mass).all() and found.replayed is None


def test_tasks_have_a_length_of_their_own() -> None:
    class Words:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.ANSWER

    prompts, openings, policy = suite(6), Openings(((5,), (6, 7))), tiny_policy()
    task = np.array([prompt.kind == "task" for prompt in prompts])
    short, long = (
        measure(policy, HeldOut(prompts), Words(), openings, max_tokens=4, task_tokens=limit) for limit in (4, 24)
    )
    assert (long.length[task] > 4).any() and (long.length[~task] == short.length[~task]).all() and (short.length <= 4).all()
    assert long.opening == short.opening, "a prompt's luck is its own, whatever the others' limits are"
    said = generate(policy, [policy.render(prompt.messages) for prompt in prompts], temperature=0, max_tokens=24)
    assert (short.cut == [len(s.tokens) > 4 for s in said]).all() and short.cut.any()
    assert (long.cut[task] == [s.tokens[-1] != END for s, of in zip(said, task, strict=True) if of]).all()


def test_on_live_traffic_the_base_is_as_far_from_itself_as_nothing() -> None:
    class Words:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.ANSWER

    policy, openings = tiny_policy(), Openings(((5,), (6, 7)))
    traffic = [(5, at % 30 + 5, at // 30 + 6) for at in range(40)]
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.no_grad():
        for index, parameter in enumerate(policy.add_adapter("a", config)):
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(index))
    found = {}
    for name in (None, "a"):
        with policy.adapter(name):
            found[name] = measure(policy, HeldOut(suite(1), traffic=traffic), Words(), openings, max_tokens=8).replayed
    base, moved = found[None], found["a"]
    assert len(base.mass) == len(base.length) == len(base.kl) == 40 and np.abs(base.kl).max() < 1e-5
    assert (moved.kl > 0).all() and moved.kl.mean() > 0.01
    with torch.no_grad(), policy.adapter("a"):
        said = generate(policy, traffic, max_tokens=8, seed=0)[7].tokens
        mine = policy.response_logits(traffic[7:8], [said])[0].whole()[0].double().numpy()
    base_logits = policy.response_logits(traffic[7:8], [said])[0].whole()[0].detach().double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (mine, base_logits))
    assert moved.kl[7] == pytest.approx((p * np.log(p / q)).sum(), abs=1e-4)
