"""What senses read of a step's residual stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guard.sense import Sense, TurnEnd
from serving.engine import senses as module
from serving.engine.senses import Part, Senses
from tests.serving.engine.raw_logits import CPU

HIDDEN = 8
WEIGHTS = np.linspace(-1, 1, 4 * HIDDEN).reshape(2, 2, HIDDEN)
TAIL = (90, 91)
PAIR = Sense((2, 5), WEIGHTS, 0.5, places=("prompt_end", "user_end"), turn_end=TurnEnd(TAIL))
SINGLE = Sense((5,), WEIGHTS[:1, :1], -1.0)
NAN = math.nan


def part(row: int, begins: int, before: int, count: int, prompt: list[int], adapter: int = 0, told: bool = True) -> Part:
    tokens = np.array(prompt if told else [], np.int32)
    return Part(row, f"request {row}", adapter, begins, before, count, len(prompt), tokens)


def whole(row: int, begins: int, prompt: list[int], adapter: int = 0, told: bool = True) -> Part:
    return part(row, begins, 0, len(prompt), prompt, adapter, told)


def by_hand(stream: dict[int, torch.Tensor], sense: Sense, rows: tuple[int, ...]) -> float:
    """Rows of tokens, one of each place."""
    return sense.bias + sum(
        float(stream[layer][row].float() @ torch.tensor(sense.weights[place, i]))
        for place, row in enumerate(rows)
        for i, layer in enumerate(sense.layers)
    )


def told(read: tuple[list[int], torch.Tensor]) -> dict[int, float]:
    rows, values = read
    assert values.dtype == torch.float32
    return dict(zip(rows, values.tolist(), strict=True))


def streams(tokens: int, seed: int = 0) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(tokens, HIDDEN, generator=generator, dtype=torch.float64).bfloat16() for layer in (2, 5)}


@pytest.fixture
def senses() -> Senses:
    found = Senses(CPU)
    found.set(0, PAIR)
    found.set(3, SINGLE)
    return found


def test_each_prompt_is_read_at_its_places_by_its_adapters_sense(senses):
    stream = streams(17)
    parts = [whole(0, 0, [1, 2, *TAIL]), whole(1, 4, [1, 2, *TAIL], 3), whole(2, 8, [4, 4], 7),
             whole(4, 10, [5, *TAIL, 6, 7]), whole(5, 15, [8, 9])]  # fmt: skip
    expected = {
        0: by_hand(stream, PAIR, (3, 1)),
        1: by_hand(stream, SINGLE, (7,)),
        2: NAN,  # an adapter without a sense
        4: by_hand(stream, PAIR, (14, 10)),
        5: NAN,  # nothing ends the user's words
    }
    assert told(senses.read(stream, parts)) == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert not senses.begun


def test_a_prompt_that_is_read_in_parts_is_read_whole_beside_others(senses):
    prompt, first, second = [1, 2, 3, *TAIL], streams(4), streams(2, seed=1)
    assert told(senses.read(first, [part(0, 0, 0, 3, prompt), part(1, 3, 3, 1, prompt)])) == {}
    found = told(senses.read(second, [part(0, 0, 3, 2, prompt), part(1, 1, 4, 1, prompt)]))
    by_place = by_hand(first, PAIR, (0, 2)) - by_hand(first, PAIR, (0,))
    expected = {0: by_hand(second, PAIR, (1,)) + by_place, 1: NAN}  # the second one's words came from elsewhere
    assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert not senses.begun


def test_of_a_request_that_was_aborted_nothing_is_left_for_another_of_its_name(senses):
    prompt = [1, 2, 3, *TAIL]
    senses.read(streams(3), [part(0, 0, 0, 3, prompt)])
    senses.forget("request 0")
    senses.forget("request 7")
    assert math.isnan(told(senses.read(streams(1), [part(0, 0, 4, 1, prompt)]))[0])


def test_what_aborted_requests_leave_is_bounded(senses, monkeypatch):
    monkeypatch.setattr(module, "BEGUN", 2)
    prompt = [1, 2, 3, *TAIL]
    for row in range(4):
        senses.read(streams(3), [part(row, 0, 0, 3, prompt)])
    assert list(senses.begun) == ["request 2", "request 3"]
    assert math.isfinite(told(senses.read(streams(2), [part(3, 0, 3, 2, prompt)]))[3])


def test_a_prompt_that_is_computed_anew_is_read_anew(senses):
    prompt, again = [1, 2, 3, *TAIL], streams(5, seed=2)
    senses.read(streams(3), [part(0, 0, 0, 3, prompt)])  # preempted behind its words
    assert told(senses.read(again, [whole(0, 0, prompt)])) == pytest.approx({0: by_hand(again, PAIR, (4, 2))}, abs=1e-5)


def test_of_embeddings_only_the_end_is_known(senses):
    stream = streams(8)
    found = told(senses.read(stream, [whole(0, 0, [1, 2, *TAIL], told=False), whole(1, 4, [1, 2, *TAIL], 3, told=False)]))
    assert found == pytest.approx({0: NAN, 1: by_hand(stream, SINGLE, (7,))}, abs=1e-5, nan_ok=True)


def test_what_cannot_be_read_is_marked_and_is_no_number(senses):
    stream, parts = streams(5), [whole(0, 0, [1, *TAIL]), whole(1, 3, [1, 2], 3)]
    assert senses.read({5: stream[5]}, parts)[1].isnan().tolist() == [True, False]
    assert senses.read({layer: states[:, 1:] for layer, states in stream.items()}, parts)[1].isnan().all()
    stream[5][4, 0], stream[2][0, 0] = torch.nan, torch.inf
    assert senses.read(stream, parts)[1].isnan().all()
    senses.set(3, None)
    assert senses.read(streams(5), parts)[1].isnan().tolist() == [False, True] and list(senses.known) == [0]
