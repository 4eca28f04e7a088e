"""The opening trees of all adapters as one table of tensors, in which a worker looks up and walks many responses at once.

A row is a place where a response can stand: an inner node of an adapter's tree, behind its decision, or inside a reasoning.
Its edges are the tokens that lead on (-1 pads), each with the weight its probability has in the refusal mass and the row it
leads to; every other token leads to the row's `other`. Row 0 is nowhere: no mass is measured there, and nothing leads out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from guard.openings import LEFT, ROOT, Openings
from guard.reasoning import THINKING

NOWHERE = 0
Edge = tuple[int, float, int]
Row = tuple[list[Edge], int, bool, bool]
"""Edges, other, measured, among."""


class Trees:
    """tokens, leads [rows, width] int64, weights [rows, width] float32, other [rows] int64, measured, among [rows] bool, all
    on `device`. Rows of one adapter stay where they are until it is forgotten.

    among: where an answer may begin behind a reasoning; the mass there is taken among tokens that are no edge of weight 0.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.openings: dict[int, Openings] = {}
        self.blocks: dict[int, tuple[int, int]] = {}
        self._free: list[tuple[int, int]] = []
        self.tokens = torch.full((1, 1), -1, dtype=torch.int64, device=device)
        self.weights = torch.zeros((1, 1), device=device)
        self.leads = torch.zeros((1, 1), dtype=torch.int64, device=device)
        self.other = torch.zeros(1, dtype=torch.int64, device=device)
        self.measured = torch.zeros(1, dtype=torch.bool, device=device)
        self.among = torch.zeros(1, dtype=torch.bool, device=device)

    def set(self, adapter: int, openings: Openings | None) -> None:
        """Set, or with None forget, the tree of a LoRA id; responses under its old tree are nowhere from then on."""
        old = self.blocks.pop(adapter, None)
        self.openings.pop(adapter, None)
        if openings:
            rows = len(openings.prefixes) + 2
            block = next((block for block in self._free if block[1] >= rows), None)
            if block is None:
                block = len(self.other), rows
            else:
                self._free.remove(block)
            self.openings[adapter], self.blocks[adapter] = openings, block
            self._write(block[0], list(places(openings, block[0])))
        if old is not None:  # only now, that no response still in it is in the new one
            self._free.append(old)
            self._write(old[0], [([], NOWHERE, False, False)] * old[1])

    @property
    def reasons(self) -> bool:
        """Whether any of the models reasons."""
        return any(openings.reasoning for openings in self.openings.values())

    def row(self, adapter: int, node: int | None) -> int:
        """The row of a node of an adapter's tree (None: nobody knows where)."""
        if node is None or adapter not in self.blocks:
            return NOWHERE
        return place(self.openings[adapter], self.blocks[adapter][0], node)

    def step(self, rows: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The rows ([n] int64) after one token each ([n]; a negative one is none and leads nowhere)."""
        tokens = tokens.to(torch.int64)
        taken = self.tokens[rows] == tokens[:, None]
        led = torch.where(taken, self.leads[rows], -1).amax(1)
        return torch.where(tokens < 0, NOWHERE, torch.where(led < 0, self.other[rows], led))

    def _write(self, start: int, rows: Sequence[Row]) -> None:
        """Write rows from `start` on; the table grows where it must."""
        height = max(len(self.other), start + len(rows))
        width = max(self.tokens.shape[1], *(len(edges) for edges, *_ in rows))
        self.tokens, self.leads = grown(self.tokens, height, width, -1), grown(self.leads, height, width, 0)
        self.weights = grown(self.weights, height, width, 0.0)
        self.other, self.measured = grown(self.other, height, None, 0), grown(self.measured, height, None, False)
        self.among = grown(self.among, height, None, False)
        for row, (edges, other, measured, among) in enumerate(rows, start):
            padded = [*edges, *[(-1, 0.0, NOWHERE)] * (width - len(edges))]
            tokens, weights, leads = zip(*padded, strict=True)
            self.tokens[row], self.weights[row] = torch.tensor(tokens), torch.tensor(weights)
            self.leads[row], self.other[row] = torch.tensor(leads), other
            self.measured[row], self.among[row] = measured, among


def place(openings: Openings, start: int, node: int) -> int:
    """Where a node lies in a block: inner nodes first, then behind the decision, then the reasoning."""
    inner = len(openings.prefixes)
    return start + (node if node >= ROOT else inner + 1 if node == THINKING else inner)


def places(openings: Openings, start: int) -> Iterable[Row]:
    """The rows of one adapter's block. Behind the decision (an opening completed, or left) the mass is the root's again, of
    opening a refusal here, in whatever spelling; inside a reasoning there is none."""
    behind = place(openings, start, LEFT)
    known = openings.reasoning
    for node in range(len(openings.prefixes)):
        ways = dict(openings.children(node))
        among = known is not None and node == ROOT
        if among:
            ways |= dict.fromkeys(sorted(known.aside), 0.0)
        steps = {token: openings.step(node, token) for token in ways}
        yield [(token, weight, place(openings, start, steps[token])) for token, weight in ways.items()], behind, True, among
    yield [(token, weight, behind) for token, weight in openings.anew_children()], behind, True, False
    ends = [(known.end, 0.0, start)] if known else []
    yield ends, place(openings, start, THINKING), False, False


def grown(table: torch.Tensor, height: int, width: int | None, fill: float) -> torch.Tensor:
    """The table with more rows and, where it has them, columns."""
    shape = (height,) if width is None else (height, width)
    if table.shape == shape:
        return table
    larger = torch.full(shape, fill, dtype=table.dtype, device=table.device)
    larger[tuple(slice(size) for size in table.shape)] = table
    return larger
