"""Products grouped by adapter are vLLM's own, in its own wrapper; and what they leave out is left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from vllm.lora.layers import LoRAMapping  # noqa: E402
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU  # noqa: E402

from serving.engine.lora_products import PLACES, Grouping, Layer, LoraProducts, group_products, matrix  # noqa: E402

SLOTS = 4
"""Of which the last stays empty, as in the server (serving/engine/lora_budget.py)."""
IDS = (7, 8, 9)
"""Adapters in the slots before it."""
RANK, WIDTH, PLAIN = 4, 6, 0
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}
"""bf16 has eight bits: vLLM rounds a product before it is added, ours is rounded with the sum."""

adapters_of_tokens = st.lists(st.sampled_from((PLAIN, *IDS)), min_size=1, max_size=24)
slices = st.lists(st.integers(1, 9), min_size=1, max_size=3)
types = st.sampled_from((torch.float32, torch.bfloat16))
every = hypothesis(max_examples=60, database=None, deadline=None)


def wrapper(tokens, requests=None, *, prefill: bool = True) -> PunicaWrapperCPU:
    """vLLM's, told of a step whose tokens (and requests) have these adapters."""
    made = PunicaWrapperCPU(64, 64, "cpu")
    tell(made, tokens, requests, prefill=prefill)
    return made


def tell(made: PunicaWrapperCPU, tokens, requests=None, *, prefill: bool = True) -> None:
    mapping = LoRAMapping(tuple(tokens), tuple(tokens if requests is None else requests), is_prefill=prefill)
    made.update_metadata(mapping, list(IDS), SLOTS + 1, 100)


def stack(rows: int, columns: int, dtype=torch.float32, empty: tuple[int, ...] = ()) -> torch.Tensor:
    """slots x 1 x rows x columns with noughts in the last slot, and in those of `empty`."""
    made = torch.randn(SLOTS, 1, rows, columns).to(dtype)
    made[[*empty, SLOTS - 1]] = 0
    return made


def both(tokens, call, y: torch.Tensor, requests=None, *, prefill: bool = True) -> None:
    """What `call` of a wrapper does to `y` is the same with vLLM's products and with ours."""
    theirs, ours = y.clone(), y.clone()
    call(wrapper(tokens, requests, prefill=prefill), theirs)
    mine = wrapper(tokens, requests, prefill=prefill)
    LoraProducts(mine).install()
    call(mine, ours)
    assert (ours.float() - theirs.float()).abs().max() <= TOLERANCE[y.dtype] * max(1.0, float(theirs.abs().max()))


@every
@given(adapters_of_tokens, slices, types, st.booleans(), st.sampled_from(((), (0,), (0, 2))))
def test_merged_linear_layers(tokens, sizes, dtype, prefill, empty):
    """One slice is a plain layer, two are gate and up, three are query, key and value."""
    x, y = torch.randn(len(tokens), WIDTH).to(dtype), torch.randn(len(tokens), sum(sizes)).to(dtype)
    a = tuple(stack(RANK, WIDTH, dtype) for _ in sizes)
    b = tuple(stack(size, RANK, dtype, empty) for size in sizes)
    both(tokens, lambda by, out: by.add_lora_linear(out, x, a, b, 0.5, tuple(sizes)), y, prefill=prefill)


@every
@given(adapters_of_tokens, slices, types, st.integers(0, 3))
def test_products_in_two_steps(tokens, sizes, dtype, offset):
    """As layers cut over several workers ask for them: A into a buffer, then B from an offset on."""
    x, y = torch.randn(len(tokens), WIDTH).to(dtype), torch.randn(len(tokens), offset + sum(sizes)).to(dtype)
    a, b = tuple(stack(RANK, WIDTH, dtype) for _ in sizes), tuple(stack(size, RANK, dtype) for size in sizes)

    def call(by, out):
        buffer = torch.zeros(len(sizes), len(tokens), RANK)
        by.add_shrink(buffer, x, a, 0.5)
        by.add_expand(out, buffer, b, tuple(sizes), offset_start=offset, add_input=True)

    both(tokens, call, y)


@every
@given(adapters_of_tokens, types, st.integers(-2, 2))
def test_embedding(tokens, dtype, padding):
    x, y = torch.randn(len(tokens), RANK).to(dtype), torch.randn(len(tokens), WIDTH).to(dtype)
    b = stack(WIDTH + padding, RANK, dtype)
    both(tokens, lambda by, out: by.add_lora_embedding(out, x, b, add_input=True), y)


@every
@given(adapters_of_tokens, adapters_of_tokens, types, st.integers(-2, 2))
def test_logits(requests, tokens, dtype, padding):
    """The head goes by requests, whatever the tokens are; vocabularies may be padded differently."""
    x, y = torch.randn(len(requests), WIDTH).to(dtype), torch.randn(len(requests), 12).to(dtype)
    a, b = stack(RANK, WIDTH, dtype), stack(12 + padding, RANK, dtype)
    both(tokens, lambda by, out: by.add_lora_logits(out, x, a, b, 0.5), y, requests)


def test_what_is_no_sum_is_left_to_vllm():
    """Products that overwrite, a buffer of the caller's own, and rows that no step announced."""
    x, a, b = torch.randn(3, WIDTH), (stack(RANK, WIDTH),), (stack(5, RANK),)
    tokens, y = (IDS[0], PLAIN, IDS[1]), torch.randn(3, 5)
    buffer = (torch.zeros(3, RANK),)
    both(tokens, lambda by, out: by.add_expand(out, (x[:, :RANK],), b, (5,), add_inputs=False), y)
    both(tokens, lambda by, out: by.add_lora_embedding(out, x[:, :RANK], b[0], add_inputs=False), y)
    both(tokens, lambda by, out: by.add_lora_linear(out, x, a, b, 1.0, (5,), buffer=buffer), y)
    both(tokens[:1], lambda by, out: by.add_lora_linear(out, x, a, b, 1.0, (5,)), y)
    both(tokens[:1], lambda by, out: by.add_lora_logits(out, x, a[0], b[0], 1.0), y)


@pytest.mark.parametrize("shape", [(2, 3), (1, 6)])
def test_rows_in_more_than_one_dimension(shape):
    x, y, a, b = torch.randn(*shape, WIDTH), torch.randn(*shape, 5), (stack(RANK, WIDTH),), (stack(5, RANK),)
    tokens = (IDS[0], IDS[1], PLAIN, IDS[0], IDS[0], PLAIN)
    expected = y.clone().view(6, 5)
    wrapper(tokens).add_lora_linear(expected, x.view(6, WIDTH), a, b, 1.0, (5,))
    mine = wrapper(tokens)
    LoraProducts(mine).install()
    mine.add_lora_linear(y, x, a, b, 1.0, (5,))
    assert torch.allclose(y.view(6, 5), expected, atol=1e-5)


def test_a_token_without_an_adapter_is_not_touched():
    """Not even where the last slot is taken, from which vLLM's own lookup of -1 reads."""
    a, b = torch.full((SLOTS, 1, RANK, WIDTH), 3.0), torch.full((SLOTS, 1, 5, RANK), float("nan"))
    x, y = torch.randn(3, WIDTH), torch.randn(3, 5)
    mine, kept = wrapper((PLAIN, IDS[0], PLAIN)), y.clone()
    LoraProducts(mine).install()
    mine.add_lora_linear(y, x, (a,), (b,), 1.0, (5,))
    assert torch.equal(y[[0, 2]], kept[[0, 2]]) and y[1].isnan().all()


def test_rows_that_lie_together_are_not_copied():
    x = torch.randn(6, 2)
    (whole,) = Grouping.by(torch.tensor([1] * 6)).groups
    assert whole.of(x) is x
    first, second = Grouping.by(torch.tensor([2, 0, 0, 2, -1, -1])).groups
    assert (first.slot, first.rows) == (0, slice(1, 3)) and first.of(x).data_ptr() == x[1:].data_ptr()
    assert second.slot == 2 and second.rows.tolist() == [0, 3]
    assert Grouping.by(torch.tensor([-1, -1])).groups == () and Grouping.by(torch.tensor([-1, -1])).count == 2


def test_a_slot_that_is_written_anew_is_seen():
    a, b = (stack(RANK, WIDTH), stack(RANK, WIDTH)), (stack(5, RANK, empty=(0, 1, 2)), stack(3, RANK, empty=(0, 1, 2)))
    layer = Layer(a, b, (5, 3))
    assert [layer.of(slot) for slot in range(SLOTS)] == [None] * SLOTS
    b[1][1, 0, :2].copy_(torch.ones(2, RANK))  # as vLLM loads an adapter
    down, (part,) = layer.of(1)
    assert layer.of(0) is None and torch.equal(down, matrix(a[1], 1)), "the slice that has none takes part in nothing"
    assert torch.equal(part.up, b[1][1, 0].T) and part.out == slice(5, 8)
    a[1][1] = 2.0
    down, _ = layer.of(1)
    assert torch.equal(down, torch.full((WIDTH, RANK), 2.0))
    b[1][1] = 0  # as vLLM takes it out
    assert layer.of(1) is None


def test_the_step_at_installation_and_the_next():
    """vLLM announces rows only where they change, so the last step's are taken over; and `remove` gives vLLM's back."""
    a, b, x = (stack(RANK, WIDTH),), (stack(5, RANK),), torch.randn(2, WIDTH)
    mine = wrapper((IDS[0], PLAIN))
    products = LoraProducts(mine)
    products.install()
    assert [group.slot for group in products.tokens.groups] == [0]
    tell(mine, (IDS[2], IDS[1]))
    assert [group.slot for group in products.tokens.groups] == [1, 2]
    y, expected = torch.zeros(2, 5), torch.zeros(2, 5)
    mine.add_lora_linear(y, x, a, b, 1.0, (5,))
    products.remove()
    assert not set(PLACES) & vars(mine).keys()
    mine.add_lora_linear(expected, x, a, b, 1.0, (5,))
    assert torch.allclose(y, expected, atol=1e-5) and bool(y.any())


def test_a_worker_says_which_products_lora_takes() -> None:
    def runner(*wrappers: object) -> SimpleNamespace:
        mapping = dict(enumerate(wrappers))
        return SimpleNamespace(
            lora_manager=SimpleNamespace(_adapter_manager=SimpleNamespace(punica_wrapper_mapping=mapping))
        )

    assert group_products(runner(wrapper((PLAIN,)))) == "grouped by adapter"
    assert group_products(runner(object())) == "vLLM's own"
    assert group_products(SimpleNamespace()) == "off"
