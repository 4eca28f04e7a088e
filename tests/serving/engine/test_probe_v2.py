"""The probe of Model Runner V2."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from guard.packed_measurement import unpack
from serving.engine.probe_v2 import ProbeV2
from tests.serving.engine.raw_logits import CPU, PLAIN, REASONS, VOCABULARY, expected

Tensors = namedtuple("Tensors", ["selected_token_ranks"])


class Runner:
    """The parts of a V2 runner that its probe wraps, on the CPU: V2 itself needs Triton. It draws what it is told to."""

    def __init__(self, logits: list[torch.Tensor], drawn: list[list[list[int]]], speculative: int = 0) -> None:
        self.device, self.max_num_reqs, self.num_speculative_steps = CPU, 4, speculative
        self.req_states = SimpleNamespace(req_id_to_index={})
        self.sampler = SimpleNamespace(get_logprobs_dims=lambda mapping: (0, 0))
        self.model = SimpleNamespace(compute_logits=lambda hidden: logits[hidden].clone())
        self.drawn = drawn

    def add_requests(self, scheduled) -> None:
        for request in scheduled.scheduled_new_reqs:
            self.req_states.req_id_to_index.setdefault(request.req_id, len(self.req_states.req_id_to_index))

    def sample(self, step, batch, grammar):
        logits = self.model.compute_logits(step)
        logits.fill_(0.0)  # as a grammar's mask would, in place
        width = max(map(len, self.drawn[step]))
        tokens = torch.tensor([row + [-1] * (width - len(row)) for row in self.drawn[step]])
        ranks = torch.ones(len(logits), dtype=torch.int64)
        tensors = Tensors(selected_token_ranks=ranks)
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
        input_ids=torch.tensor(ids, dtype=torch.int32),
        logits_indices=torch.arange(len(ids)),
    )


def request(name: str, adapter: int, prompt: list[int], said: list[int]) -> SimpleNamespace:
    lora = SimpleNamespace(lora_int_id=adapter) if adapter else None
    return SimpleNamespace(req_id=name, lora_request=lora, prompt_len=len(prompt), prefill_token_ids=[*prompt, *said])


@pytest.mark.parametrize("drafts", [None, [[1, 2], []]])
def test_the_probe_of_runner_v2_measures_raw_logits_where_each_response_stands(drafts):
    """Two responses, one of which came back after it had said a token; the second step goes on from what the first drew."""
    generator = torch.Generator().manual_seed(0)
    rows = 2 if drafts is None else 4
    logits = [torch.randn(rows, VOCABULARY, generator=generator), torch.randn(2, VOCABULARY, generator=generator)]
    first = [[1], [5]] if drafts is None else [[1, 2, 9], [5]]
    probe = ProbeV2(runner := Runner(logits, [first, [[0], [0]]], speculative=2))
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
    ProbeV2(runner)
    runner.sampler.get_logprobs_dims = lambda mapping: None
    output, *_ = runner.sample(0, batch([0]), None)
    assert output.logprobs_tensors.selected_token_ranks.tolist() == [1]
    assert runner.model.compute_logits(0).shape == (1, VOCABULARY)
