"""The probe of Model Runner V2."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from guard.packed_measurement import unpack
from guard.sense import Sense, TurnEnd
from serving.engine.packing import HARM
from serving.engine.probe_v2 import ProbeV2
from tests.serving.engine.raw_logits import CPU, PLAIN, REASONS, VOCABULARY, expected

Tensors = namedtuple("Tensors", ["selected_token_ranks", "logprob_token_ids", "logprobs"])
UNREAD = SimpleNamespace(take=lambda auxiliary, tokens: {})
"""A residual stream of which nothing is taken."""


class Runner:
    """The parts of a V2 runner that its probe wraps, on the CPU: V2 itself needs Triton. It draws what it is told to."""

    def __init__(self, logits: list[torch.Tensor], drawn: list[list[list[int]]], speculative: int = 0) -> None:
        self.device, self.max_num_reqs, self.num_speculative_steps = CPU, 4, speculative
        self.req_states = SimpleNamespace(req_id_to_index={})
        self.sampler = SimpleNamespace(get_logprobs_dims=lambda mapping: (0, 0))
        self.model = SimpleNamespace(compute_logits=lambda hidden: logits[hidden].clone())
        self.drawn = drawn
        self.execute_model_state = None

    def sample_tokens(self, grammar):
        state, self.execute_model_state = self.execute_model_state, None
        return self.sample(state.step, state.input_batch, grammar)

    def add_requests(self, scheduled) -> None:
        for request in scheduled.scheduled_new_reqs:
            self.req_states.req_id_to_index.setdefault(request.req_id, len(self.req_states.req_id_to_index))

    def sample(self, step, batch, grammar):
        logits = self.model.compute_logits(step)
        logits.fill_(0.0)  # as a grammar's mask would, in place
        width = max(map(len, self.drawn[step]))
        tokens = torch.tensor([row + [-1] * (width - len(row)) for row in self.drawn[step]])
        ranks = torch.ones(len(logits), dtype=torch.int64)
        tensors = Tensors(ranks, torch.zeros(len(logits), 2, dtype=torch.int64), torch.zeros(len(logits), 2))
        sampled = torch.tensor([len(row) for row in self.drawn[step]])
        return SimpleNamespace(sampled_token_ids=tokens, logprobs_tensors=tensors), sampled, None


def batch(slots: list[int], drafts: list[list[int]] | None = None) -> SimpleNamespace:
    """An input batch: per request its slot and the tokens drafted for it."""
    drafts = drafts or [[] for _ in slots]
    expanded = [slot for slot, ids in zip(slots, drafts, strict=True) for _ in range(len(ids) + 1)]
    ids = [token for own in drafts for token in (0, *own)]
    return SimpleNamespace(
        num_reqs=len(slots),
        idx_mapping=torch.tensor(slots, dtype=torch.int32),
        idx_mapping_np=np.array(slots),
        expanded_idx_mapping=torch.tensor(expanded, dtype=torch.int32),
        expanded_local_pos=torch.tensor([at for own in drafts for at in range(len(own) + 1)]),
        num_draft_tokens=sum(map(len, drafts)),
        num_tokens=len(ids),
        has_prefill=False,
        input_ids=torch.tensor(ids, dtype=torch.int32),
        logits_indices=torch.arange(len(ids)),
    )


def request(name: str, adapter: int, prompt: list[int], said: list[int]) -> SimpleNamespace:
    lora = SimpleNamespace(lora_int_id=adapter) if adapter else None
    return SimpleNamespace(req_id=name, lora_request=lora, prompt_len=len(prompt), prefill_token_ids=[*prompt, *said],
                           mm_features=[], prompt_embeds=None)  # fmt: skip


@pytest.mark.parametrize("drafts", [None, [[1, 2], []]])
def test_the_probe_of_runner_v2_measures_raw_logits_where_each_response_stands(drafts):
    """Two responses, one of which came back after it had said a token; the second step goes on from what the first drew."""
    generator = torch.Generator().manual_seed(0)
    rows = 2 if drafts is None else 4
    logits = [torch.randn(rows, VOCABULARY, generator=generator), torch.randn(2, VOCABULARY, generator=generator)]
    first = [[1], [5]] if drafts is None else [[1, 2, 9], [5]]
    probe = ProbeV2(runner := Runner(logits, [first, [[0], [0]]], speculative=2), UNREAD)
    probe.trees.set(0, PLAIN)
    probe.trees.set(3, REASONS)
    new = [request("a", 0, [9, 9], []), request("b", 3, [9, 10], [8, 11])]
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=new))
    output, *_ = runner.sample(0, batch([0, 1], drafts), None)
    entropies, masses, ranks = unpack(output.logprobs_tensors.selected_token_ranks.numpy())
    assert ranks.tolist() == [1] * rows
    assert entropies == pytest.approx(torch.distributions.Categorical(logits=logits[0]).entropy().numpy(), abs=1e-5)
    paths = [[], []] if drafts is None else [[], [1], [1, 2], []]
    trees = [PLAIN, REASONS] if drafts is None else [PLAIN, PLAIN, PLAIN, REASONS]
    wanted = expected(logits[0], trees, [tree.walk(path) for tree, path in zip(trees, paths, strict=True)])
    assert masses == pytest.approx(wanted, abs=1e-4)
    output, *_ = runner.sample(1, batch([0, 1]), None)
    masses = unpack(output.logprobs_tensors.selected_token_ranks.numpy())[1]
    nodes = [PLAIN.walk(first[0]), REASONS.walk(first[1])]
    assert masses == pytest.approx(expected(logits[1], [PLAIN, REASONS], nodes), abs=1e-4)


def test_runner_v2_is_left_alone_where_no_logprobs_are_wanted():
    runner = Runner([torch.zeros(1, VOCABULARY)], [[[1]]])
    ProbeV2(runner, UNREAD)
    runner.sampler.get_logprobs_dims = lambda mapping: None
    output, *_ = runner.sample(0, batch([0]), None)
    assert output.logprobs_tensors.selected_token_ranks.tolist() == [1]
    assert runner.model.compute_logits(0).shape == (1, VOCABULARY)


def test_runner_v2_reads_the_senses_where_prompts_end():
    """One step: a whole prompt, a decode with two drafts, a prompt whose end comes later, and a last chunk of an adapter."""
    hidden = torch.arange(16.0)[:, None].repeat(1, 2)
    stream = SimpleNamespace(take=lambda auxiliary, tokens: {1: auxiliary[0]})
    runner = Runner([torch.zeros(6, VOCABULARY)], [[[1], [2, 3], [4], [5]]], speculative=2)
    probe = ProbeV2(runner, stream)
    probe.senses.set(0, Sense((1,), np.ones((1, 1, 2)), 0.5))
    probe.senses.set(3, Sense((1,), np.array([[[1.0, 0.0]]]), 0.0))
    new = [
        request("a", 0, [9] * 3, []),
        request("b", 0, [9], []),
        request("c", 0, [9] * 20, []),
        request("d", 3, [9] * 10, []),
    ]
    runner.req_states.prompt_len = SimpleNamespace(np=np.array([3, 1, 20, 10]))
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=new))
    step = batch([0, 1, 2, 3], [[], [1, 2], [], []])
    step.has_prefill, step.num_tokens = True, 14
    step.num_computed_prefill_tokens_np, step.num_scheduled_tokens = np.array([0, 1, 0, 6]), np.array([3, 3, 4, 4])
    step.query_start_loc_np, step.cu_num_logits_np = np.array([0, 3, 6, 10, 14]), np.array([0, 1, 4, 5, 6])
    runner.execute_model_state = SimpleNamespace(step=0, input_batch=step, aux_hidden_states=[hidden])
    output, *_ = runner.sample_tokens(None)
    tensors = output.logprobs_tensors
    assert tensors.logprob_token_ids[:, -1].tolist() == [HARM] * 6 and tensors.logprobs.shape == (6, 3)
    nan = float("nan")
    assert tensors.logprobs[:, -1].tolist() == pytest.approx([4.5, nan, nan, nan, nan, 13.0], nan_ok=True)
    assert probe.auxiliary is None


def test_runner_v2_reads_both_places_of_a_prompt_over_two_steps_and_none_of_a_slot_that_was_another_requests():
    """What follows a prompt that resumes is not part of it, and of one that was aborted nothing is left in its slot."""
    stream = SimpleNamespace(take=lambda auxiliary, tokens: {1: auxiliary[0]})
    runner = Runner([torch.zeros(2, VOCABULARY)] * 3, [[[1], [2]]] * 3)
    probe = ProbeV2(runner, stream)
    weights = np.array([[[1.0]], [[10.0]]])
    probe.senses.set(0, Sense((1,), weights, 0.0, places=("prompt_end", "user_end"), turn_end=TurnEnd((7, 8))))
    runner.req_states.prompt_len = SimpleNamespace(np=np.array([5, 4]))
    runner.req_states.req_id_to_index = {"a": 0, "b": 1, "c": 1}
    new = [request("a", 0, [9, 9, 9, 7, 8], [3, 7, 8]), request("b", 0, [9, 9, 7, 8], [])]
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=new))

    def step(before: list[int], count: list[int]) -> list[float]:
        one = batch([0, 1])
        one.has_prefill, one.num_tokens = True, sum(count)
        one.num_computed_prefill_tokens_np, one.num_scheduled_tokens = np.array(before), np.array(count)
        one.query_start_loc_np, one.cu_num_logits_np = np.array([0, *np.cumsum(count)]), np.array([0, 1, 2])
        hidden = torch.tensor([[100.0 * row + at] for row in (0, 1) for at in range(before[row], before[row] + count[row])])
        state = SimpleNamespace(step=runner.step, input_batch=one, aux_hidden_states=[hidden])
        runner.execute_model_state, runner.step = state, runner.step + 1
        tensors = runner.sample_tokens(None)[0].logprobs_tensors
        return tensors.logprobs[:, -1].tolist() if HARM in tensors.logprob_token_ids[:, -1] else []

    runner.step = 0
    assert step([0, 0], [3, 2]) == []  # both prompts' words, and neither's end
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=[request("c", 0, [9, 9, 7, 8], [])]))
    assert step([3, 3], [2, 1]) == pytest.approx([4 + 10 * 2, float("nan")], nan_ok=True)
    runner.add_requests(SimpleNamespace(scheduled_new_reqs=new))
    assert step([0, 0], [5, 4]) == pytest.approx([4 + 10 * 2, 103 + 10 * 101])
