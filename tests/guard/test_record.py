"""What a response's tokens amount to: the mass at the decision, the opening, the entropies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.openings import Openings
from guard.record import ResponseRecord

OPENINGS = Openings(((7,), (1, 2, 3), (1, 5)))
NAN = math.nan
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 3, 5, 7]),
        st.floats(0, 12),
        st.one_of(st.floats(0, 1), st.just(NAN)),
    ),
    max_size=12,
)


def record(*rows: tuple[int, float, float], openings: Openings | None = OPENINGS) -> ResponseRecord:
    """A response of (token, entropy, mass) rows."""
    made = ResponseRecord(openings)
    made.extend(*(zip(*rows, strict=True) if rows else ([], [], [])))
    return made


def test_a_response_that_leaves_at_once_has_the_mass_of_its_first_token():
    response = record((0, 1.0, 0.3), (7, 1.0, 0.9), (1, 1.0, 0.8))
    assert response.refusal_mass == 0.3 and not response.opening_matched


def test_a_response_that_opens_at_once_has_the_mass_of_its_first_token():
    response = record((7, 0.1, 0.6), (4, 0.1, 0.01))
    assert response.refusal_mass == 0.6 and response.opening_matched


def test_the_deepest_node_reached_decides():
    """Two steps into the tree the model thought again: that is its decision."""
    response = record((1, 1.0, 0.2), (2, 1.0, 0.5), (9, 1.0, 0.7), (7, 1.0, 0.9))
    assert response.refusal_mass == 0.7 and not response.opening_matched
    response = record((1, 1.0, 0.2), (2, 1.0, 0.5), (3, 1.0, 0.95), (9, 1.0, 0.0))
    assert response.refusal_mass == 0.95 and response.opening_matched


def test_a_response_that_ends_inside_the_tree_has_not_refused():
    response = record((1, 1.0, 0.2), (2, 1.0, 0.5))
    assert response.refusal_mass == 0.5 and not response.opening_matched


def test_a_mass_that_was_not_measured_leaves_the_last_one():
    assert record((1, 1.0, 0.2), (5, 1.0, NAN)).refusal_mass == 0.2
    assert record((1, 1.0, NAN), (5, 1.0, 0.4)).refusal_mass == 0.4
    assert record((0, 1.0, NAN)).refusal_mass is None


@pytest.mark.parametrize("openings", [None, Openings(())])
def test_without_openings_there_is_neither_mass_nor_match(openings):
    response = record((7, 1.0, 0.9), openings=openings)
    assert response.refusal_mass is None and not response.opening_matched
    assert response.tokens == [7] and response.masses == [0.9]


def test_entropies_are_averaged_over_every_token():
    response = record((0, 1.0, 0.0), (0, 4.0, 0.0), (0, 1.0, 0.0))
    assert response.entropy_mean == 2.0 and response.entropy_max == 4.0


def test_an_empty_response_has_no_entropy_and_no_mass():
    response = record()
    assert math.isnan(response.entropy_mean) and math.isnan(response.entropy_max)
    assert response.refusal_mass is None and not response.opening_matched


def test_an_entropy_that_was_not_measured_shows():
    assert math.isnan(record((0, 1.0, 0.0), (0, NAN, 0.0)).entropy_mean)
    assert math.isnan(record((0, 1.0, 0.0), (0, NAN, 0.0)).entropy_max)


def test_a_step_with_unequal_lengths_is_an_error():
    with pytest.raises(ValueError):
        ResponseRecord(OPENINGS).extend([1, 2], [0.5], [0.5])


def test_records_share_nothing():
    one, other = record((7, 1.0, 0.5)), ResponseRecord(OPENINGS)
    assert one.tokens == [7] and other.tokens == [] and not other.opening_matched


@given(STEPS, st.data())
def test_how_the_tokens_arrive_changes_nothing(rows, data):
    """Token by token, in any chunks (speculation ships several at once) or all together."""
    whole = record(*rows)
    chunked = ResponseRecord(OPENINGS)
    start = 0
    while start < len(rows):
        end = data.draw(st.integers(start + 1, len(rows)))
        chunked.extend(*zip(*rows[start:end], strict=True))
        start = end
    one_by_one = ResponseRecord(OPENINGS)
    for token, entropy, mass in rows:
        one_by_one.extend([token], [entropy], [mass])
    for other in (chunked, one_by_one):
        assert other.tokens == whole.tokens and other.entropies == whole.entropies
        assert repr(other.masses) == repr(whole.masses)
        assert other.refusal_mass == whole.refusal_mass and other.opening_matched == whole.opening_matched
        assert repr(other.entropy_mean) == repr(whole.entropy_mean)


@given(STEPS)
def test_the_mass_is_the_last_measured_up_to_the_decision(rows):
    tokens = [row[0] for row in rows]
    walked = [tokens[:n] for n in range(len(rows)) if OPENINGS.walk(tokens[:n]) >= 0]
    measured = [mass for _, _, mass in rows[: len(walked)] if not math.isnan(mass)]
    response = record(*rows)
    assert response.refusal_mass == (measured[-1] if measured else None)
    assert response.opening_matched == OPENINGS.matched(tokens)
