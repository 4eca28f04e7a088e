"""What senses read of a step's residual stream."""

from __future__ import annotations

import pytest
import torch

from serving.engine.senses import PromptEnd, Senses
from tests.serving.engine.raw_logits import CPU

HIDDEN = 8
WEIGHTS = torch.linspace(-1, 1, 2 * HIDDEN).reshape(2, HIDDEN)
PAIR = {"layers": [2, 5], "weights": WEIGHTS.tolist(), "bias": 0.5}
SINGLE = {"layers": [5], "weights": WEIGHTS[:1].tolist(), "bias": -1.0}


@pytest.fixture
def stream() -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {layer: torch.randn(6, HIDDEN, generator=generator, dtype=torch.float64).bfloat16() for layer in (2, 5)}


@pytest.fixture
def senses() -> Senses:
    found = Senses(CPU)
    found.set(0, PAIR)
    found.set(3, SINGLE)
    return found


def test_each_prompt_is_read_at_its_end_by_its_adapters_sense(senses, stream):
    ends = [PromptEnd(0, 0, 5), PromptEnd(1, 3, 2), PromptEnd(2, 7, 1), PromptEnd(4, 0, 0)]
    pair = [
        0.5 + sum(float(stream[layer][at].float() @ row) for layer, row in zip((2, 5), WEIGHTS, strict=True))
        for at in (5, 0)
    ]
    single = -1.0 + float(stream[5][2].float() @ WEIGHTS[0])
    read = senses.read(stream, ends)
    assert read.dtype == torch.float32
    assert read.tolist() == pytest.approx([pair[0], single, float("nan"), pair[1]], abs=1e-5, nan_ok=True)


def test_what_cannot_be_read_is_marked_and_is_no_number(senses, stream):
    ends = [PromptEnd(0, 0, 5), PromptEnd(1, 3, 2)]
    assert senses.read({5: stream[5]}, ends).isnan().tolist() == [True, False]
    assert senses.read({layer: states[:, 1:] for layer, states in stream.items()}, ends).isnan().all()
    stream[5][2, 0], stream[2][5, 0] = torch.nan, torch.inf
    assert senses.read(stream, ends).isnan().all()
    senses.set(3, None)
    assert senses.read({5: stream[5]}, ends).isnan().all() and list(senses.known) == [0]
