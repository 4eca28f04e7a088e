"""The harm sense: a linear read-out, its bands, and the form it is kept in."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.sense import FORMAT, Sense, SenseError, TurnEnd

END = TurnEnd((90, 91, 92), frozenset({90, 92}))
NUMBERS = st.floats(-1e4, 1e4, width=32)


@pytest.fixture
def sense() -> Sense:
    weights = np.random.default_rng(0).normal(size=(2, 2, 5)).astype(np.float32)
    places = ("prompt_end", "user_end")
    return Sense((3, 7), weights, bias=-0.5, harmless=-2.0, harmful=1.5, places=places, turn_end=END)


def test_it_is_a_sum_over_places_layers_and_widths(sense):
    states = np.random.default_rng(1).normal(size=(2, 2, 5))
    by_hand = -0.5 + sum(float(w) * x for w, x in zip(sense.weights.ravel(), states.ravel(), strict=True))
    assert sense.read(states) == pytest.approx(by_hand)
    assert sense.read(np.zeros((2, 2, 5))) == -0.5


@given(st.lists(NUMBERS, min_size=6, max_size=6), st.lists(NUMBERS, min_size=6, max_size=6), NUMBERS)
def test_it_is_linear_in_the_streams(first, second, bias):
    sense = Sense((1, 2), np.arange(6).reshape(1, 2, 3), bias)
    a, b = (np.reshape(x, (1, 2, 3)) for x in (first, second))
    assert sense.read(a + b) + bias == pytest.approx(sense.read(a) + sense.read(b), abs=1e-6)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_stream_that_is_not_finite_is_not_read_and_never_nought(sense, broken):
    states = np.zeros((2, 2, 5))
    states[1, 1, 3] = broken
    assert sense.read(states) is None
    assert sense.probability(None) is None and sense.probability(math.nan) is None
    assert sense.band(None) == sense.band(math.nan) == "grey"


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 2, 5), (2, 2, 4), (2, 3, 5), (2, 2, 5, 1)])
def test_streams_of_another_model_are_refused_in_a_sentence(sense, shape):
    with pytest.raises(SenseError, match=r"do not fit weights of \(2, 2, 5\)"):
        sense.read(np.zeros(shape))


def test_the_probability_is_that_of_the_log_odds(sense):
    assert sense.probability(0.0) == 0.5
    assert sense.probability(2.0) == pytest.approx(1 - sense.probability(-2.0))
    assert sense.probability(-1e6) == 0.0 and sense.probability(1e6) == 1.0


def test_each_band_holds_its_own_end(sense):
    found = [sense.band(h) for h in (-9.0, -2.0, math.nextafter(-2, 0), 0.0, math.nextafter(1.5, 0), 1.5, 9.0)]
    assert found == ["harmless", "harmless", "grey", "grey", "grey", "harmful", "harmful"]


def test_a_promise_that_cannot_be_kept_leaves_its_side_grey(sense):
    assert dataclasses.replace(sense, harmful=None).band(99.0) == "grey"
    assert dataclasses.replace(sense, harmful=None).band(-99.0) == "harmless"
    assert dataclasses.replace(sense, harmless=None).band(-99.0) == "grey"
    assert dataclasses.replace(sense, harmless=None, harmful=None).band(99.0) == "grey"


def test_written_and_read_it_is_the_same_to_the_last_bit(sense):
    for one in (sense, dataclasses.replace(sense, harmless=None, harmful=None)):
        again = Sense.from_json(json.loads(json.dumps(one.to_json())))
        assert again == one and np.array_equal(again.weights, one.weights) and again.weights.dtype == np.float32
    assert sense != dataclasses.replace(sense, bias=0.0) and sense != "else"


def test_three_layers_of_a_small_model_take_few_kilobytes():
    sense = Sense((12, 15, 18), np.random.default_rng(0).normal(size=(1, 3, 896)), 0.0)
    assert len(json.dumps(sense.to_json())) < 16_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": FORMAT + 1}, "upgrade, or calibrate again"),
        ({"format": None}, "no format number"),
        ({"format": True}, "no format number"),
        ({"weights": "AAAA"}, "not as it was written"),
        ({"weights": "not base64!"}, "not as it was written"),
        ({"weights": 7}, "not as it was written"),
        ({"layers": [3, 7, 9]}, "no equal shares of 2 places and 3 layers"),
        ({"layers": []}, "no equal shares of 2 places and 0 layers"),
        ({"layers": [7, 3]}, "no ascending numbers"),
        ({"layers": [0, 3]}, "no ascending numbers"),
        ({"layers": "x"}, "not as it was written"),
        ({"bias": "x"}, "not as it was written"),
        ({"bias": math.nan}, "not a finite number"),
        ({"harmful": math.inf}, "not a finite number"),
        ({"harmful": -3.0}, "out of order"),
        ({"places": ["prompt_end", "answer"]}, "'answer' is not known"),
        ({"places": []}, "no equal shares of 0 places"),
        ({"places": ["user_end", "user_end"]}, "do not fit 2 places"),
        ({"places": 7}, "not as it was written"),
        ({"places": [["prompt_end"], "user_end"]}, "is not known"),
        ({"turn_end": {"tokens": ["x"], "marks": []}}, "not as it was written"),
        ({"turn_end": []}, "not as it was written"),
    ],
)
def test_what_cannot_be_read_is_said(sense, change, said):
    with pytest.raises(SenseError, match=said):
        Sense.from_json({**sense.to_json(), **change})


@pytest.mark.parametrize("missing", ["places", "turn_end", "layers", "weights", "bias", "harmless", "harmful"])
def test_a_missing_part_is_named(sense, missing):
    data = sense.to_json()
    del data[missing]
    with pytest.raises(SenseError, match=missing):
        Sense.from_json(data)


def test_one_of_the_first_format_is_read_at_the_prompts_end(sense):
    told = {key: value for key, value in sense.to_json().items() if key not in ("places", "turn_end")}
    found = Sense.from_json(told | {"format": 1, "place": "prompt_end", "layers": [1, 3, 5, 7]})
    assert found.places == ("prompt_end",) and found.turn_end == TurnEnd() and found.back((1, 90, 91, 92)) == (0,)
    assert np.array_equal(found.weights, sense.weights.reshape(1, 4, 5))


@pytest.mark.parametrize(
    ("prompt", "back"),
    [
        ((1, 2, 3, 90, 91, 92), 3),
        ((1, 2, 3, 90, 91, 92, 5, 6), 5),  # an answer that was begun
        ((1, 2, 3, 90, 91, 92, *[91] * 900), 903),  # and however long
        ((1, 90, 91, 92, 4, 90, 91, 92), 3),  # the last of two turns
        ((1, 90, 91, 92, 4, 90, 4), None),  # another turn, that nothing ends
        ((1, 90, 91, 92, 92, 4), None),
        ((1, 2, 3), None),  # no chat
        ((1, 2, 90, 91), None),
        ((90, 91, 92), None),  # nobody said anything
        ((91,), None),
        ((), None),
    ],
)
def test_the_users_words_end_before_what_the_template_puts_behind_them(sense, prompt, back):
    assert sense.back(prompt) == (0, back)
    assert sense.back(np.array(prompt, np.int32)) == (0, back)
    assert dataclasses.replace(sense, turn_end=TurnEnd()).back(prompt) == (0, None)


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros(5),
        np.zeros((2, 5)),
        np.zeros((1, 3, 5)),
        np.zeros((2, 2, 5)),
        np.zeros((1, 2, 0)),
        np.full((1, 2, 5), np.nan),
    ],
)
def test_weights_must_fit_the_layers(weights):
    with pytest.raises(SenseError):
        Sense((3, 7), weights, 0.0)


def test_its_weights_cannot_be_changed(sense):
    with pytest.raises(ValueError, match="read-only"):
        sense.weights[0, 0, 0] = 1.0


def test_a_refusal_is_needless_up_to_a_limit_of_its_own(sense):
    needless = dataclasses.replace(sense, needless=-0.5)
    assert needless.over_refused(-0.5) and not needless.over_refused(-0.4) and needless.band(-0.5) == "grey"
    assert not any(needless.over_refused(h) for h in (None, math.nan))
    assert not sense.over_refused(-99.0), "a promise that could not be kept"
    told = json.loads(json.dumps(needless.to_json()))
    assert Sense.from_json(told) == needless and "needless" not in sense.to_json()
