"""Rows of tokens: padded, numbered, picked from and drawn."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from online.model.token_rows import BLOCK, draw, padded, pick, positions

CPU = torch.device("cpu")


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=6), min_size=1, max_size=5), st.booleans())
def test_padding_keeps_every_token_and_positions_count_the_real_ones(rows: list[list[int]], left: bool) -> None:
    ids, mask = padded(rows, CPU, left=left)
    assert ids.shape == mask.shape == (len(rows), max(map(len, rows)))
    for row, (tokens, real) in zip(rows, zip(ids, mask.bool(), strict=True), strict=True):
        assert tokens[real].tolist() == row and not tokens[~real].any()
        assert real[-1 if left else 0], "padded on the other side"
    at = positions(mask)
    assert [at[row][mask[row].bool()].tolist() for row in range(len(rows))] == [list(range(len(row))) for row in rows]


def test_picking_has_the_shape_of_the_places_and_sums_their_gradients() -> None:
    values = torch.arange(6.0).view(2, 3).requires_grad_()
    places = torch.tensor([[0, 2], [2, 2]])
    found = pick(values, places)
    torch.testing.assert_close(found, values[:, places])
    found.sum().backward()
    assert values.grad is not None and values.grad.tolist() == [[1.0, 0.0, 3.0]] * 2


def test_a_draw_is_the_inverse_of_the_cumulative_distribution() -> None:
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).expand(5, -1)
    luck = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.9999999], dtype=torch.double)
    assert draw(logits, luck, torch.ones(5)).tolist() == [0, 0, 1, 1, 2]
    assert draw(logits, luck, torch.zeros(5)).tolist() == [1] * 5
    assert draw(logits, luck, torch.full((5,), 1e-3)).tolist() == [1] * 5, "cold is as good as greedy"
    assert draw(logits, luck, torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])).tolist() == [0, 1, 1, 1, 2], "each has its own heat"
    assert draw(logits, torch.ones(5, dtype=torch.double), torch.ones(5)).tolist() == [2] * 5, "no token is behind the last"


def test_a_draw_from_a_large_vocabulary_is_the_same_by_blocks() -> None:
    torch.manual_seed(0)
    logits, luck = 4 * torch.randn(40, 2 * BLOCK + 77), torch.rand(40, dtype=torch.double)
    logits[:, BLOCK : BLOCK + 500] = -torch.inf
    logits[0, : 2 * BLOCK] = -torch.inf
    luck[1] = 0.0
    heat = torch.linspace(0.5, 1.5, 40)
    cumulative = (logits.double() / heat[:, None]).softmax(1).cumsum(1)
    drawn = draw(logits, luck, heat)
    assert drawn.tolist() == torch.searchsorted(cumulative, luck[:, None], right=True)[:, 0].tolist()
    drawn = torch.cat([drawn, draw(logits, torch.full_like(luck, 1 - 2**-53), heat)])
    assert logits.repeat(2, 1).gather(1, drawn[:, None]).isfinite().all(), "a token of probability 0 was drawn"
