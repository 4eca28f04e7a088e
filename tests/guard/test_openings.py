"""The tree of refusal openings: its shape, the walk along it, and what it learns from samples."""

from __future__ import annotations

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.openings import DEPTH, LEFT, MATCHED, NODES, ROOT, Openings

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8)
SAMPLES = st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=30)


@pytest.fixture
def tree() -> Openings:
    """7 | 1 2 3 | 1 2 4 | 1 5, with the value of two of the inner prefixes known."""
    return Openings(((1, 2, 3), (7,), (1, 5), (1, 2, 4)), {(1,): 0.5, (1, 2): 0.75})


def test_sequences_are_sorted_and_counted_once():
    assert Openings(((3, 1), (2,), (3, 1))).sequences == ((2,), (3, 1))


def test_a_sequence_that_extends_another_is_dropped():
    assert Openings(((1, 2, 3), (1, 2), (1, 3), (4, 5), (4,))).sequences == ((1, 2), (1, 3), (4,))


def test_empty_sequences_are_no_openings():
    openings = Openings(((), (1,)))
    assert openings.sequences == ((1,),)
    assert not Openings(((),)) and not Openings(()) and openings


def test_equality_is_that_of_openings_and_values():
    assert Openings(((1,), (2, 3))) == Openings(((2, 3), (1,), (1, 9)))
    assert Openings(((1, 2),)) != Openings(((1, 2),), {(1,): 0.5})


def test_inner_nodes_are_numbered_from_the_root_by_length(tree):
    assert tree.prefixes == ((), (1,), (1, 2))
    assert tree.depth == 3 and Openings(()).depth == 0


def test_walk_ends_inside_outside_or_at_an_opening(tree):
    assert tree.walk([]) == ROOT
    assert tree.walk([1]) == 1 and tree.prefixes[1] == (1,)
    assert tree.walk([1, 2]) == 2 and tree.prefixes[2] == (1, 2)
    for opening in tree.sequences:
        assert tree.walk(opening) == tree.walk([*opening, 99]) == MATCHED
    for other in ([0], [2, 1, 5], [1, 3], [1, 2, 5], [1, 1, 5]):
        assert tree.walk(other) == tree.walk([*other, 7]) == LEFT


def test_step_from_a_final_node_stays_there(tree):
    for token in (1, 5, 7, 99):
        assert tree.step(LEFT, token) == LEFT and tree.step(MATCHED, token) == MATCHED


def test_only_whole_openings_match(tree):
    assert tree.matched((1, 5)) and tree.matched(iter([7, 0, 0]))
    assert not tree.matched(()) and not tree.matched((1, 2)) and not tree.matched((5, 1))


def test_children_weigh_one_where_they_complete_and_their_value_where_they_do_not(tree):
    assert tree.children(ROOT) == ((1, 0.5), (7, 1.0))
    assert tree.children(1) == ((2, 0.75), (5, 1.0))
    assert tree.children(2) == ((3, 1.0), (4, 1.0))


def test_an_inner_node_without_a_value_weighs_one():
    assert Openings(((1, 2),)).children(ROOT) == ((1, 1.0),)


def test_without_openings_everything_leaves_at_once():
    openings = Openings(())
    assert openings.children(ROOT) == () and openings.walk([1]) == LEFT and openings.walk([]) == ROOT


def test_json_round_trip(tree):
    text = json.dumps(tree.to_json())
    assert Openings.from_json(json.loads(text)) == tree


@given(SEQUENCES)
def test_the_set_is_prefix_free_and_matches_what_the_sequences_did(sequences):
    openings = Openings(tuple(map(tuple, sequences)))
    for one, other in product(openings.sequences, repeat=2):
        assert one == other or one != other[: len(one)]
    for response in product(range(4), repeat=3):
        expected = any(s and len(s) <= 3 and list(response[: len(s)]) == s for s in sequences)
        assert openings.matched(response) == expected


@given(SEQUENCES, st.lists(st.integers(0, 4), max_size=6))
def test_walk_is_step_after_step_and_children_are_the_ways_on(sequences, response):
    openings = Openings(tuple(map(tuple, sequences)))
    node = ROOT
    for token in response:
        if node >= 0:
            assert (openings.step(node, token) != LEFT) == (token in dict(openings.children(node)))
        node = openings.step(node, token)
    assert openings.walk(response) == node


def test_learning_extends_a_first_token_that_answers_share():
    """Refusals and answers that both begin "I": the second token decides."""
    refusals = [[10, 20, 1]] * 50 + [[11, 1, 1]] * 50
    others = [[10, 30, 1]] * 60 + [[40, 1, 1]] * 40
    assert Openings.learn(refusals, others).sequences == ((10, 20), (11,))


def test_learning_drops_a_prefix_that_stays_mixed():
    both = [[10, 20, 30, 40, 50]] * 10
    assert Openings.learn(both + [[11, 2]] * 10, both).sequences == ((11,),)
    assert not Openings.learn(both, both)


def test_learning_looks_no_deeper_than_it_is_told():
    refusals, others = [[1, 2, 3, 4, 5]] * 10, [[1, 2, 3, 4, 6]] * 10
    assert not Openings.learn(refusals, others, depth=4)
    assert Openings.learn(refusals, others, depth=5).sequences == ((1, 2, 3, 4, 5),)
    shared = list(range(DEPTH))
    assert Openings.learn([[*shared[1:], 90]] * 10, [[*shared[1:], 91]] * 10).depth == DEPTH
    assert not Openings.learn([[*shared, 90]] * 10, [[*shared, 91]] * 10)


def test_learning_weighs_the_classes_alike():
    """Ten times as many answers must not outvote the refusals: purity is of rates, not of counts."""
    refusals = [[1]] * 10
    assert Openings.learn(refusals, [[1]] * 5 + [[2]] * 995).sequences == ((1,),)
    assert not Openings.learn(refusals, [[1]] * 60 + [[2]] * 940)


@pytest.mark.parametrize(("share", "kept"), [(0.94, False), (0.96, True)])
def test_purity_is_the_least_share_on_the_refusals_side(share, kept):
    refusals = [[1]] * 100
    others = [[1]] * round(100 * (1 - share) / share) + [[2]] * (100 - round(100 * (1 - share) / share))
    assert Openings.learn(refusals, others, purity=0.95).matched([1]) == kept


def test_one_odd_sample_founds_nothing():
    refusals, others = [[1]] * 99 + [[2]], [[3]] * 100
    assert Openings.learn(refusals, others).sequences == ((1,),)
    assert Openings.learn([[1]] * 98 + [[2]] * 2, others).sequences == ((1,), (2,))
    assert Openings.learn([[1]] * 98 + [[2]] * 2, others, support=0.05).sequences == ((1,),)


def test_refusals_of_one_prompt_found_nothing():
    refusals, others, sources = [[1]] * 4 + [[2]] * 4, [[3]] * 8, ["a", "a", "a", "a", "b", "b", "b", "c"]
    assert Openings.learn(refusals, others, sources=sources).sequences == ((2,),)


def test_of_openings_that_make_too_large_a_tree_the_rarest_are_left_out():
    refusals = [[1, 2, 3]] * 30 + [[4, 5]] * 20 + [[6]] * 10 + [[4, 7]] * 5
    others = [[1, 2, 9], [4, 9], [8]] * 20
    whole = Openings.learn(refusals, others)
    assert whole.sequences == ((1, 2, 3), (4, 5), (4, 7), (6,)) and len(whole.prefixes) == 4
    assert Openings.learn(refusals, others, nodes=4) == whole
    assert Openings.learn(refusals, others, nodes=3).sequences == ((1, 2, 3), (6,))
    assert Openings.learn(refusals, others, nodes=1).sequences == ((6,),)
    assert len(Openings.learn([[at, 1] for at in range(200)] * 2, [[at, 2] for at in range(200)]).prefixes) == NODES


def test_nothing_is_learned_from_one_side_alone():
    assert not Openings.learn([], [[1]]) and not Openings.learn([[1]] * 9, [])


@given(SAMPLES, SAMPLES, st.sampled_from([0.6, 0.95, 1.0]), st.sampled_from([0.004, 0.3]))
def test_learned_openings_match_only_what_they_should(refusals, others, purity, support):
    openings = Openings.learn(refusals, others, depth=4, purity=purity, support=support)

    def rate(side, prefix):
        return sum(tuple(s[: len(prefix)]) == prefix for s in side) / len(side)

    def pure(prefix):
        ours, theirs = rate(refusals, prefix), rate(others, prefix)
        return ours * len(refusals) >= max(2, support * len(refusals)) and ours >= purity * (ours + theirs)

    for opening in openings.sequences:
        assert pure(opening) and 1 <= len(opening) <= 4
        assert not any(pure(opening[:n]) for n in range(1, len(opening))), "a shorter prefix says it already"
    for response in refusals:
        expected = any(pure(tuple(response[:n])) for n in range(1, min(4, len(response)) + 1))
        assert openings.matched(response) == expected
    if purity == 1.0:
        assert not any(map(openings.matched, others))
