"""The entropy kernel: token entropy and logsumexp on a GPU, with one read of the logits.

A row is cut into pieces. A program holds one in registers, and takes of it the maximum m, the sum of exponentials s and the
sum w of their products with what they are exponentials of. Pieces combine exactly (online softmax, arXiv 1805.02867): under
the larger maximum M, s becomes a s and w becomes a (w + (m - M) s), with a = exp(m - M). Then H = log s - w / s.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 8192
"""Logits of one program, a power of 2: so few that several programs share a multiprocessor, and load while others sum."""
WARPS = 8


@triton.jit
def _take(logits, maxima, sums, products, columns, stride, pieces, PIECE: tl.constexpr):  # type: ignore[no-untyped-def]
    row, piece = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = piece * PIECE + tl.arange(0, PIECE)
    x = tl.load(logits + row * stride + at, mask=at < columns, other=float("-inf")).to(tl.float32)
    top = tl.max(x, 0)
    shifted = x - tl.where(top == float("-inf"), 0.0, top)  # a piece without a finite logit adds nothing
    weight = tl.exp(shifted)
    out = row * pieces + piece
    tl.store(maxima + out, top)
    tl.store(sums + out, tl.sum(weight, 0))
    tl.store(products + out, tl.sum(tl.where(weight > 0, weight * shifted, 0.0), 0))


@triton.jit
def _combine(maxima, sums, products, entropy, normaliser, pieces, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WIDTH)
    real = at < pieces
    top = tl.load(maxima + row * pieces + at, mask=real, other=float("-inf"))
    total = tl.load(sums + row * pieces + at, mask=real, other=0.0)
    product = tl.load(products + row * pieces + at, mask=real, other=0.0)
    highest = tl.max(top, 0)
    apart = top - tl.where(highest == float("-inf"), 0.0, highest)
    scale = tl.exp(apart)
    whole = tl.sum(scale * total, 0)
    weighted = tl.sum(tl.where(scale > 0, scale * (product + apart * total), 0.0), 0)
    tl.store(entropy + row, tl.log(whole) - weighted / whole)
    tl.store(normaliser + row, highest + tl.log(whole))


def scan(logits: Tensor, piece: int = PIECE, warps: int = WARPS) -> tuple[Tensor, Tensor]:
    """(entropy in nats, logsumexp) of each row of (rows, vocabulary), in fp32: shapes (rows,).

    A logit of -inf adds nothing. A NaN, an infinity, or a row without a finite logit gives NaN as its entropy.
    """
    rows, columns = logits.shape
    entropy, normaliser = _empty(logits, 2, rows)
    if not rows:
        return entropy, normaliser
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    pieces = triton.cdiv(columns, piece)
    parts = _empty(logits, 3, rows, pieces)
    with torch.cuda.device_of(logits):  # Triton launches on the current device, wherever its arguments lie
        _take[(rows, pieces)](logits, *parts, columns, logits.stride(0), pieces, PIECE=piece, num_warps=warps)
        _combine[(rows,)](*parts, entropy, normaliser, pieces, WIDTH=triton.next_power_of_2(pieces), num_warps=1)
    return entropy, normaliser


def _empty(logits: Tensor, count: int, *shape: int) -> list[Tensor]:
    """So many tensors of a shape, each on its own: parts of one would begin at any address, and Triton builds a kernel anew
    for each kind of them, in the middle of serving."""
    return [torch.empty(shape, dtype=torch.float32, device=logits.device) for _ in range(count)]
