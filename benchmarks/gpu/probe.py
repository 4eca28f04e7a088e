"""The probe's entropy against the device's bandwidth: as torch reads it, as torch compiles it, and by the kernel.

The least a call can do is read each logit once: `share` is that, over what a copy moves in the time that the call took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.clock import called, copy_bandwidth, replayed
from benchmarks.gpu.results import Cell
from benchmarks.gpu.sizes import Sizes
from guard.entropy import token_entropy as reference
from online.model import entropy

DTYPES = ("float32", "bfloat16")
BLOCKS = ((2048, 4), (4096, 4), (8192, 8), (16_384, 8), (16_384, 16))
"""Logits and warps of one program of the kernel, as tried."""
CHECKED = 16
"""Rows of a call that are held against the reference."""

Scan = Callable[[Tensor], tuple[Tensor, Tensor]]


def cells(sizes: Sizes) -> Iterator[tuple[str, Cell]]:
    """The bandwidth, then every precision and number of rows; last what the kernel's blocks and a compiler would make."""
    bandwidth: dict[str, float] = {}

    def copied() -> dict[str, Any]:
        bandwidth["copy"] = copy_bandwidth(sizes.device, sizes.bytes)
        return {"bytes_per_second": bandwidth["copy"]}

    def at(scan: Scan, dtype: str, rows: int) -> Cell:
        return lambda: timed(scan, sizes, dtype, rows, bandwidth.get("copy"))

    yield "bandwidth", copied
    scans: dict[str, Scan] = {"torch": read}
    if sizes.device == "cuda" and (kernel := entropy._kernel()) is not None:
        scans["kernel"] = kernel
    for dtype in DTYPES:
        for rows in sizes.rows:
            for name, scan in scans.items():
                yield f"probe, {name}, {dtype}, {rows} rows", at(scan, dtype, rows)
            yield f"probe, with masses, {dtype}, {rows} rows", at(with_masses, dtype, rows)
    if "kernel" in scans:
        for dtype in DTYPES:
            yield f"probe, blocks, {dtype}", blocks(sizes, dtype, bandwidth)


def compiled_cells(sizes: Sizes) -> Iterator[tuple[str, Cell]]:
    """What torch's compiler makes of torch's way, where it gets ready in time."""
    for dtype in DTYPES if sizes.device == "cuda" else ():

        def made(dtype: str = dtype) -> dict[str, Any]:
            scan = torch.compile(read)
            return {str(rows): timed(scan, sizes, dtype, rows, None) for rows in sizes.rows}

        yield f"probe, compiled, {dtype}", made


def read(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Torch's way, in several passes."""
    return entropy._read(logits, clamp=True)


def with_masses(logits: Tensor) -> tuple[Tensor, Tensor]:
    """As the worker asks: entropy and refusal mass over 24 children a row."""
    children = torch.arange(24, device=logits.device).expand(len(logits), -1)
    found, mass = entropy.entropy_and_mass(logits, children, torch.ones_like(children, dtype=torch.float32))
    return found, mass


def buffer(sizes: Sizes, dtype: str, rows: int) -> Tensor:
    """Logits, more than any cache holds, and `rows` at least."""
    kind = getattr(torch, dtype)
    count = max(rows, sizes.bytes // (sizes.columns * kind.itemsize))
    torch.manual_seed(0)
    return torch.randn(count, sizes.columns, device=sizes.device, dtype=kind).mul_(4)


def timed(scan: Scan, sizes: Sizes, dtype: str, rows: int, copy: float | None) -> dict[str, Any]:
    """Seconds, bytes a second, share of the copy's bandwidth, largest error in nats against fp64."""
    logits = buffer(sizes, dtype, rows)
    places = len(logits) // rows

    def work(number: int) -> object:
        start = number % places * rows
        return scan(logits[start : start + rows])

    first = logits[:rows]
    found: dict[str, Any] = {"seconds": called(work, sizes.device, sizes.calls), "max_error": error(scan(first)[0], first)}
    if sizes.device == "cuda":
        try:
            found["seconds_replayed"] = replayed(work, min(places, 20) if rows < 256 else 4)
        except RuntimeError as refusal:  # not all that torch does can be captured
            found["not_replayed"] = str(refusal).splitlines()[0]
    best, least = min(found["seconds"], found.get("seconds_replayed", 1e9)), first.nbytes
    found["bytes_per_second"] = least / best
    if copy:
        found["share"] = least / best / copy
    return found


def error(entropies: Tensor, logits: Tensor) -> float:
    """Largest difference in nats from the reference in fp64, in the first rows."""
    exact = reference(logits[:CHECKED].double().cpu())
    return float(np.abs(entropies[:CHECKED].cpu().numpy() - exact).max())


def blocks(sizes: Sizes, dtype: str, bandwidth: dict[str, float]) -> Cell:
    """The kernel with other blocks, at the fewest and the most rows."""

    def tried() -> dict[str, Any]:
        from online.model.entropy_kernel import scan

        found = {}
        for piece, warps in BLOCKS:
            for rows in (sizes.rows[1], sizes.rows[-1]):
                one = timed(lambda x, p=piece, w=warps: scan(x, p, w), sizes, dtype, rows, bandwidth.get("copy"))
                found[f"{piece} logits, {warps} warps, {rows} rows"] = one
        return found

    return tried
