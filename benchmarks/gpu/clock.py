"""Clocks: how long work takes on a device, and how fast the device copies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

Work = Callable[[int], object]
"""Takes the number of the call, by which it can take another input each time: one buffer again and again is cached."""


def waited(device: str) -> float:
    """The time in seconds, once all work on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def called(work: Work, device: str, calls: int) -> float:
    """Median seconds of one call, its launches included; on a GPU by events. Three calls warm up."""
    for number in range(3):
        work(number)
    spans = []
    if device == "cuda":
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
        for number, (start, end) in enumerate(events):
            start.record()
            work(number)
            end.record()
        torch.cuda.synchronize()
        spans = [start.elapsed_time(end) / 1000 for start, end in events]
    else:
        for number in range(calls):
            began = time.perf_counter()
            work(number)
            spans.append(time.perf_counter() - began)
    return statistics.median(spans)


def replayed(work: Work, calls: int) -> float:
    """Seconds of one call on a GPU without its launches: `calls` of them in one graph, median of ten replays."""
    work(0)  # what is built at the first call cannot be captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(calls):
            work(number)
    return called(lambda _: graph.replay(), "cuda", 10) / calls


def copy_bandwidth(device: str, size: int) -> float:
    """Bytes a second that a copy of `size` bytes reads and writes."""
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / called(lambda _: target.copy_(source), device, 10)
