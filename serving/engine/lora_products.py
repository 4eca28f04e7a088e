"""LoRA's matrix products on CPUs, grouped by adapter.

vLLM's CPU operators copy an adapter's matrices once for each token of a step (tokens x out x rank numbers), and multiply
token by token (vLLM 0.32, lora/ops/torch_ops/lora_ops.py). Tokens without an adapter get copies of an empty slot. Here all
tokens of an adapter share plain matrix products, and tokens without one take part in none. The sums are the same, up to
rounding.

Which tokens have which adapter is the same in every layer of a step, so it is worked out once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MethodType

import torch
from torch import Tensor

from serving.engine.version import require_supported

PLACES = ("update_metadata", "_apply_shrink", "_apply_expand", "add_lora_linear", "add_lora_logits", "add_lora_embedding")
"""The methods of vLLM's wrapper whose place ours take. Full classification heads stay vLLM's: nothing is generated there."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of a step that have one adapter: its LoRA slot, and None for all rows, a slice where they lie together, else
    their numbers."""

    slot: int
    rows: None | slice | Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """These rows of `tensor` (rows x any): a copy only where they lie apart."""
        if self.rows is None:
            return tensor
        return tensor[self.rows] if isinstance(self.rows, slice) else tensor.index_select(0, self.rows)

    def add(self, out: Tensor, inner: Tensor, up: Tensor, scale: float) -> None:
        """`out` (all rows x width) += scale * `inner` (these rows x rank) @ `up` (rank x width), in these rows."""
        if isinstance(self.rows, Tensor):
            out.index_copy_(0, self.rows, torch.addmm(self.of(out), inner, up, alpha=scale))
        else:
            self.of(out).addmm_(inner, up, alpha=scale)


@dataclass(frozen=True, slots=True)
class Grouping:
    """count: rows of the step; groups: those with an adapter, by adapter."""

    count: int
    groups: tuple[Group, ...]

    @staticmethod
    def by(slots: Tensor) -> Grouping:
        """Of the LoRA slot of each row (int64, -1 for none)."""
        groups = []
        for slot in slots.unique().tolist():
            if slot >= 0:
                rows = (slots == slot).nonzero().flatten()
                first, last = int(rows[0]), int(rows[-1])
                together = slice(first, last + 1) if last - first + 1 == len(rows) else rows
                groups.append(Group(slot, None if len(rows) == len(slots) else together))
        return Grouping(len(slots), tuple(groups))


@dataclass(frozen=True, slots=True)
class Part:
    """One slice of a layer with one adapter: columns of the product with A, B as a row is multiplied by it (rank x size),
    and columns of the output."""

    inner: slice
    up: Tensor
    out: slice


@dataclass(slots=True)
class Layer:
    """The stacks of a layer's slices (slots x 1 x rank x in, slots x 1 x size x rank), and what is multiplied of each slot.

    Slices whose B is nought are left out, as those of layers that an adapter does not change. The others' A are one matrix,
    so that they take one product. All is worked out anew when a stack was written to.
    """

    downs: Sequence[Tensor]
    ups: Sequence[Tensor]
    sizes: Sequence[int]
    versions: list[int] = field(default_factory=list)
    seen: dict[int, tuple[Tensor, list[Part]] | None] = field(default_factory=dict)

    def of(self, slot: int) -> tuple[Tensor, list[Part]] | None:
        """A of a slot (in x rank of all parts, fp32) and its parts; None where there is none."""
        versions = [stack._version for stack in (*self.downs, *self.ups)]
        if versions != self.versions:
            self.versions, self.seen = versions, {}
        if slot not in self.seen:
            self.seen[slot] = self._make(slot)
        return self.seen[slot]

    def _make(self, slot: int) -> tuple[Tensor, list[Part]] | None:
        downs, parts, column, start = [], [], 0, 0
        for all_downs, all_ups, size in zip(self.downs, self.ups, self.sizes, strict=True):
            down, up = matrix(all_downs, slot), matrix(all_ups, slot)
            if up.any():
                parts.append(Part(slice(column, column + down.shape[1]), up[:, :size], slice(start, start + size)))
                downs.append(down.float())
                column += down.shape[1]
            start += size
        return (downs[0] if len(downs) == 1 else torch.cat([down.T for down in downs]).T, parts) if parts else None


def matrix(stack: Tensor, slot: int) -> Tensor:
    """Of a stack (slots x 1 x out x in), as a row is multiplied by it (in x out)."""
    return stack[slot].view(stack.shape[-2:]).T


class LoraProducts:
    """The products of one punica wrapper. `install` puts them in the place of vLLM's, in this one object; `remove` undoes
    that.

    vLLM's own operators do the work where a call has other rows than vLLM announced, or where it wants no sum.
    """

    def __init__(self, wrapper) -> None:
        require_supported()
        self.wrapper = wrapper
        self.theirs = {name: getattr(wrapper, name) for name in PLACES}
        self.layers: dict[int, Layer] = {}
        self.tokens = self.requests = Grouping(-1, ())
        if wrapper.indices_len[0] is not None:  # vLLM announces a step's rows only when they are others than the last step's
            self._group()

    def install(self) -> None:
        for name in PLACES:
            setattr(self.wrapper, name, MethodType(getattr(type(self), name.removeprefix("_")), self))

    def remove(self) -> None:
        for name in PLACES:
            delattr(self.wrapper, name)

    def update_metadata(self, *args, **kwargs) -> None:
        """vLLM's own, called where a step has other rows than the last; then the rows by adapter."""
        self.theirs["update_metadata"](*args, **kwargs)
        self._group()

    def add_lora_linear(self, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, *, buffer=None, **kwargs) -> None:
        """A linear layer, or several merged into one: y (rows x sum of slices) += scale * x @ A.T @ B.T, slice by slice."""
        rows, out = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        if len(rows) != self.tokens.count or buffer is not None or kwargs:
            theirs = self.theirs["add_lora_linear"]
            return theirs(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, buffer=buffer, **kwargs)
        return self._add(self.tokens, out, rows, lora_a_stacked, lora_b_stacked, scale, output_slices)

    def add_lora_logits(self, y, x, lora_a_stacked, lora_b_stacked, scale, *, buffer=None, **kwargs) -> None:
        """The head, which has one row for each request."""
        rows, out = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        if len(rows) != self.requests.count or buffer is not None or kwargs:
            theirs = self.theirs["add_lora_logits"]
            return theirs(y, x, lora_a_stacked, lora_b_stacked, scale, buffer=buffer, **kwargs)
        # vLLM pads the vocabulary of adapters and of models differently.
        width = min(lora_b_stacked.shape[-2], out.shape[-1])
        return self._add(self.requests, out, rows, (lora_a_stacked,), (lora_b_stacked,), scale, (width,))

    def add_lora_embedding(self, y, x, lora_b_stacked, add_inputs=True, **kwargs) -> None:
        """The embedding: x (tokens x rank) are the rows of A that vLLM looked up already."""
        if len(x) != self.tokens.count or not add_inputs:
            return self.theirs["add_lora_embedding"](y, x, lora_b_stacked, add_inputs, **kwargs)
        return self._expand(y, x, lora_b_stacked, 0, min(lora_b_stacked.shape[-2], y.shape[-1]))

    def apply_shrink(self, y, x, w_t_all, scale) -> None:
        """`add_shrink` of one slice: y (tokens x rank) = scale * x @ A.T. Tokens without an adapter keep the noughts that
        every caller hands in."""
        if len(x) != self.tokens.count:
            return self.theirs["_apply_shrink"](y, x, w_t_all, scale)
        y = y.view(-1, y.shape[-1])
        for group in self.tokens.groups:
            inner = torch.mm(group.of(x).to(y.dtype), matrix(w_t_all, group.slot).to(y.dtype)).mul_(scale)
            y[slice(None) if group.rows is None else group.rows, : inner.shape[1]] = inner
        return None

    def apply_expand(self, y, x, w_t_all, y_offset, y_slice_size, add_inputs=True) -> None:
        """`add_expand` of one slice: y[:, offset : offset + size] += x (tokens x rank) @ B.T."""
        if len(x) != self.tokens.count or not add_inputs:
            return self.theirs["_apply_expand"](y, x, w_t_all, y_offset, y_slice_size, add_inputs)
        return self._expand(y, x, w_t_all, y_offset, y_slice_size)

    def _expand(self, y: Tensor, x: Tensor, ups: Tensor, offset: int, size: int) -> None:
        for group in self.tokens.groups:
            up = matrix(ups, group.slot)[:, :size].to(y.dtype)
            group.add(y[:, offset : offset + size], group.of(x).to(y.dtype), up, 1.0)

    def _add(
        self,
        grouping: Grouping,
        y: Tensor,
        x: Tensor,
        downs: Sequence[Tensor],
        ups: Sequence[Tensor],
        scale: float,
        sizes: Sequence[int],
    ) -> None:
        """y (rows x out) += scale * x (rows x in) @ A.T @ B.T for slices of these sizes. As with vLLM, the product with A is
        in fp32 and the one with B in the type of `y`."""
        if not grouping.groups:
            return
        if (layer := self.layers.get(id(ups[0]))) is None:
            layer = self.layers[id(ups[0])] = Layer(downs, ups, sizes)  # holds the stack, so that its id stays its own
        for group in grouping.groups:
            if (found := layer.of(group.slot)) is None:
                continue
            down, parts = found
            inner = torch.mm(group.of(x).float(), down).to(y.dtype)
            for part in parts:
                own = inner if len(parts) == 1 else inner[:, part.inner]
                group.add(y[:, part.out], own, part.up.to(y.dtype), scale)

    def _group(self) -> None:
        self.tokens = Grouping.by(self.wrapper.token_lora_indices)
        self.requests = Grouping.by(self.wrapper.sampler_indices)


def group_products(runner) -> str:
    """Group the products of every punica wrapper of a CPU model runner, once; returns which products LoRA takes now, or
    "off". On other devices there is none to be grouped: a GPU's kernels copy nothing."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    manager = getattr(runner, "lora_manager", None)
    if manager is None:
        return "off"
    found = {id(one): one for one in manager._adapter_manager.punica_wrapper_mapping.values()}
    ours = [one for one in found.values() if type(one) is PunicaWrapperCPU]
    for wrapper in ours:
        if "add_lora_linear" not in vars(wrapper):
            LoraProducts(wrapper).install()
    return "grouped by adapter" if ours else "vLLM's own"
