"""Walking the trees on the device is walking them on the host, for every adapter and whatever comes and goes."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.openings import LEFT, ROOT, Openings
from guard.packed_measurement import unpack
from guard.reasoning import Reasoning
from online.model.entropy import entropy_and_mass
from serving.engine.packing import words_of
from serving.engine.probe_v2 import ProbeV2
from serving.engine.trees import NOWHERE, Trees

PLAIN = Openings(((7,), (1, 2, 3), (1, 5)), {(1,): 0.5, (1, 2): 0.75}, spellings={1: (9, 14), 7: (8,)})
OTHER = Openings(((4,), (2, 2)), {(2,): 0.25})
REASONS = Openings(((7,), (1, 2)), {(1,): 0.5}, Reasoning(10, 11, frozenset({12, 13})))
CPU = torch.device("cpu")
VOCABULARY = 16
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)


def known(**adapters: Openings) -> Trees:
    trees = Trees(CPU)
    for name, openings in adapters.items():
        trees.set(int(name[1:]), openings)
    return trees


def test_rows_have_the_children_of_their_node():
    trees = known(a0=PLAIN, a3=REASONS)
    for adapter, openings in trees.openings.items():
        for node in range(len(openings.prefixes)):
            row = trees.row(adapter, node)
            ways = {int(t): float(w) for t, w in zip(trees.tokens[row], trees.weights[row], strict=True) if w > 0}
            assert ways == dict(openings.children(node)) and trees.measured[row]
        behind = trees.row(adapter, LEFT)
        ways = {int(t): float(w) for t, w in zip(trees.tokens[behind], trees.weights[behind], strict=True) if w > 0}
        assert ways == dict(openings.anew_children()) and trees.measured[behind]
    assert not trees.measured[trees.row(3, REASONS.begin([10]))] and not trees.measured[NOWHERE]


@given(st.lists(st.tuples(st.sampled_from([0, 3]), st.booleans(), TOKENS), min_size=1, max_size=5))
@settings(max_examples=60)
def test_a_walk_on_the_device_is_the_walk_on_the_host(responses):
    trees = known(a0=PLAIN, a3=REASONS)
    starts = [trees.openings[adapter].begin([10] if inside else []) for adapter, inside, _ in responses]
    rows = torch.tensor([trees.row(adapter, node) for (adapter, *_), node in zip(responses, starts, strict=True)])
    for at in range(max(len(tokens) for *_, tokens in responses)):
        alive = torch.tensor([at < len(tokens) for *_, tokens in responses])
        step = torch.tensor([tokens[at] if at < len(tokens) else 0 for *_, tokens in responses])
        rows = torch.where(alive, trees.step(rows, step), rows)
    for row, (adapter, _, tokens), start in zip(rows.tolist(), responses, starts, strict=True):
        openings = trees.openings[adapter]
        assert row == trees.row(adapter, openings.walk(tokens, start))


def test_what_nobody_knows_leads_nowhere():
    trees = known(a0=PLAIN)
    rows = torch.tensor([trees.row(0, ROOT), NOWHERE])
    assert trees.step(rows, torch.tensor([-1, 7])).tolist() == [NOWHERE, NOWHERE]
    assert trees.row(5, ROOT) == trees.row(0, None) == NOWHERE


def test_adapters_come_and_go_without_moving_each_other_or_growing_the_table():
    trees = known(a0=PLAIN)
    root = trees.row(0, ROOT)
    sizes = set()
    for version in range(1, 40):
        trees.set(version, OTHER if version % 2 else PLAIN)
        assert trees.row(0, ROOT) == root
        stale = trees.row(version, ROOT)
        trees.set(version, None)
        assert not trees.measured[stale] and trees.row(version, ROOT) == NOWHERE
        sizes.add(len(trees.other))
    assert len(sizes) <= 2
    trees.set(0, OTHER)
    assert {int(t) for t in trees.tokens[trees.row(0, ROOT)] if t >= 0} == {4, 2}


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


def expected(logits: torch.Tensor, openings: list[Openings], nodes: list[int]) -> list[float]:
    masses = []
    for row, tree, node in zip(logits, openings, nodes, strict=True):
        tokens, weights = zip(*(tree.children(node) if node >= ROOT else tree.anew_children()), strict=True)
        if tree.reasoning and node == ROOT:
            row = row.index_fill(0, torch.tensor(sorted(tree.reasoning.aside)), -torch.inf)
        masses.append(entropy_and_mass(row[None], torch.tensor([tokens]), torch.tensor([weights]))[1].item())
    return masses


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


def test_what_may_stand_before_an_answer_is_left_out_of_the_mass_even_where_it_is_all_but_certain():
    openings, row = REASONS, torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    row[0, 10] = 60.0  # the model is about to think, beyond what single precision tells from certainty
    trees = known(a3=openings)
    words = words_of(row, trees, torch.tensor([trees.row(3, ROOT)]))
    mass = unpack(words.numpy() | 1)[1]
    assert mass == pytest.approx(expected(row, [openings], [ROOT]), abs=1e-4) and mass[0] > 0.01
