"""What senses read of a step's residual stream."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from guard.sense import Sense
from serving.engine.senses import Part, Senses, beside
from tests.serving.engine.raw_logits import CPU

HIDDEN = 8
WEIGHTS = np.linspace(-1, 1, 4 * HIDDEN).reshape(2, 2, HIDDEN)
TAIL = (90, 91)
PAIR = Sense((2, 5), WEIGHTS, 0.5, places=("prompt_end", "user_end"), tail=TAIL)
SINGLE = Sense((5,), WEIGHTS[:1, :1], -1.0)
NAN = math.nan


def part(row: int, begins: int, before: int, count: int, prompt: list[int], adapter: int = 0, beside=()) -> Part:
    return Part(row, adapter, begins, before, count, np.array(prompt, np.int32), beside)


def whole(row: int, begins: int, prompt: list[int], adapter: int = 0, beside=()) -> Part:
    return part(row, begins, 0, len(prompt), prompt, adapter, beside)


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
    stream = streams(15)
    parts = [
        whole(0, 0, [1, 2, *TAIL]),
        whole(1, 4, [1, 2, *TAIL], 3),
        whole(2, 8, [4, 4], 7),
        whole(4, 10, [5, *TAIL, 6, 7]),
    ]
    expected = {
        0: by_hand(stream, PAIR, (3, 1)),
        1: by_hand(stream, SINGLE, (7,)),
        2: NAN,  # an adapter without a sense
        4: by_hand(stream, PAIR, (14, 10)),
    }
    assert told(senses.read(stream, parts)) == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_prompt_that_is_read_in_parts_is_read_whole(senses):
    prompt = [1, 2, 3, *TAIL]
    first, second = streams(3), streams(2, seed=1)
    assert told(senses.read(first, [part(0, 0, 0, 3, prompt)])) == {}
    found = told(senses.read(second, [part(0, 0, 3, 2, prompt)]))
    by_place = by_hand(first, PAIR, (0, 2)) - by_hand(first, PAIR, (0,))
    assert found == pytest.approx({0: by_hand(second, PAIR, (1,)) + by_place}, abs=1e-5)


def test_what_lies_in_a_cached_block_is_known_from_when_it_was_computed(senses):
    """Whether by the same step or one before; of another prompt, other images or another adapter nothing is taken."""
    prompt = [1, 2, 3, *TAIL]
    stream = streams(7)
    for states in stream.values():
        states[5] = states[4]  # the same prompt has the same stream
    parts = [whole(0, 0, prompt), part(1, 5, 4, 1, prompt), part(2, 6, 4, 1, [1, 2, 4, *TAIL])]
    found = told(senses.read(stream, parts))
    by_place = by_hand(stream, PAIR, (0, 2)) - by_hand(stream, PAIR, (0,))
    expected = {0: by_hand(stream, PAIR, (4, 2)), 1: by_hand(stream, PAIR, (4, 2)), 2: NAN}
    assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)
    later = streams(3, seed=1)
    parts = [part(0, 0, 4, 1, prompt), part(1, 1, 4, 1, prompt, beside=("image",)), part(2, 2, 4, 1, prompt, 3)]
    expected = {0: by_hand(later, PAIR, (0,)) + by_place, 1: NAN, 2: by_hand(later, SINGLE, (2,))}
    assert told(senses.read(later, parts)) == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_sense_that_is_set_anew_takes_nothing_that_another_read(senses):
    prompt = [1, 2, 3, *TAIL]
    senses.read(streams(5), [whole(0, 0, prompt)])
    senses.set(0, PAIR)
    assert math.isnan(told(senses.read(streams(1), [part(0, 0, 4, 1, prompt)]))[0])


def test_the_latest_readings_are_kept_and_those_that_are_asked_for_again():
    senses = Senses(CPU, kept=6)  # of three prompts
    senses.set(0, PAIR)
    prompts = [[n, *TAIL] for n in range(4)]
    for prompt in prompts[:3]:
        senses.read(streams(3), [whole(0, 0, prompt)])
    again = lambda prompt: math.isfinite(told(senses.read(streams(1), [part(0, 0, 2, 1, prompt)]))[0])  # noqa: E731
    assert again(prompts[0])
    senses.read(streams(3), [whole(0, 0, prompts[3])])
    assert [again(prompt) for prompt in (prompts[0], prompts[2], prompts[3])] == [True, True, True]
    assert not again(prompts[1]) and len(senses.at) == 6 == len(set(senses.at.values()))


def test_what_cannot_be_read_is_marked_and_is_no_number(senses):
    stream, parts = streams(5), [whole(0, 0, [1, *TAIL]), whole(1, 3, [1, 2], 3)]
    assert senses.read({5: stream[5]}, parts)[1].isnan().tolist() == [True, False]
    assert senses.read({layer: states[:, 1:] for layer, states in stream.items()}, parts)[1].isnan().all()
    stream[5][4, 0], stream[2][0, 0] = torch.nan, torch.inf
    assert senses.read(stream, parts)[1].isnan().all()
    senses.set(3, None)
    assert senses.read(streams(5), parts)[1].isnan().tolist() == [False, True] and list(senses.known) == [0]


def test_a_prompt_is_told_from_others_by_its_images_and_embeddings():
    features = [SimpleNamespace(identifier="a"), SimpleNamespace(identifier="b")]
    assert beside(SimpleNamespace(prompt_embeds=None, mm_features=features, req_id="1")) == ("a", "b")
    assert beside(SimpleNamespace(prompt_embeds=torch.zeros(2), mm_features=[], req_id="1")) == "1"
