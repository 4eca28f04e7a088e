"""Walking the trees on the device is walking them on the host, for every adapter and whatever comes and goes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.openings import LEFT, ROOT, Openings
from serving.engine.trees import NOWHERE
from tests.serving.engine.raw_logits import PLAIN, REASONS, VOCABULARY, known

OTHER = Openings(((4,), (2, 2)), {(2,): 0.25})
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)


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
