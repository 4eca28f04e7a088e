"""The parts of the guard's cost, one by one: the entropy kernel, the record of a token, the buffer.

python -m benchmarks.parts
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.shapes import VOCABULARY, calibration
from guard.record import ResponseRecord
from online.events.buffer import Buffer
from online.events.event import Event, new_event_id
from online.events.writer import BufferWriter
from online.model.entropy import entropy_and_mass
from online.settings.groups import BufferSettings
from online.state.directory import StateDir

ROUNDS = 15
RATE, SECONDS = 1000, 10
"""Responses a second that the buffer is offered, and for how long."""


def parts() -> dict:
    """All of them; times in seconds, sizes in bytes."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        "kernel": [kernel(*case) for case in itertools.product(devices, ("float32", "bfloat16"), (1, 16, 64))],
        "record_bytes_per_token": record(),
        "buffer": buffer(),
    }


def timed(work: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def floor(logits: torch.Tensor) -> torch.Tensor:
    """One read of the logits and one exp per logit: on a CPU row by row, so that the exponentials stay in cache."""
    if logits.is_cuda:
        return logits.float().exp().sum(1)
    exponentials, sums = torch.empty(logits.shape[1]), torch.empty(len(logits))
    for row, out in zip(logits, sums, strict=True):
        torch.exp(row if row.dtype == torch.float32 else row.float(), out=exponentials)
        torch.sum(exponentials, 0, out=out)
    return sums


def kernel(device: str, dtype: str, rows: int) -> dict:
    """Entropy and mass of `rows` rows against their floor, in alternating rounds; the ratio's median and range."""
    logits = torch.randn(rows, VOCABULARY, device=device).to(getattr(torch, dtype))
    children = torch.randint(VOCABULARY, (rows, 24), device=device)
    weights = torch.rand(rows, 24, device=device)
    pairs = []
    for _ in tqdm(range(ROUNDS + 2), desc=f"kernel, {device}, {dtype}, {rows} rows", leave=False):
        pairs.append(
            (timed(lambda: entropy_and_mass(logits, children, weights), device), timed(lambda: floor(logits), device))
        )
    own, least = zip(*pairs[2:], strict=True)
    ratios = sorted(a / b for a, b in zip(own, least, strict=True))
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "dtype": dtype,
        "rows": rows,
        "seconds": statistics.median(own),
        "floor_seconds": statistics.median(least),
        "ratio": {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]},
        "bytes_per_second": logits.nbytes / statistics.median(own),
    }


def record(tokens: int = 100_000) -> float:
    """What the API process keeps of a token in flight."""
    openings, rng = calibration("").openings, random.Random(0)
    tracemalloc.start()
    kept = ResponseRecord(openings)
    for _ in range(tokens):
        kept.extend([rng.randrange(VOCABULARY)], [rng.random()], [rng.random()])
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / tokens


def buffer() -> dict:
    """A writer that is offered RATE responses of 200 tokens a second: what an offer takes, what its thread costs."""
    rng = random.Random(0)
    prompt, response = (tuple(rng.randrange(VOCABULARY) for _ in range(length)) for length in (100, 200))
    entropies = tuple(rng.random() for _ in response)
    fields = {
        "adapter": "base",
        "verdict": "risky",
        "prompt": "word " * len(prompt),
        "prompt_tokens": prompt,
        "response": "word " * len(response),
        "response_tokens": response,
        "entropies": entropies,
        "entropy_mean": 0.5,
        "refusal_mass": 0.3,
        "finish_reason": "stop",
        "client": "c",
    }
    offers = []
    with tempfile.TemporaryDirectory(prefix="sirl-bench-") as folder:
        state = StateDir(Path(folder))
        settings = BufferSettings()
        writer = BufferWriter(lambda: Buffer(state.buffer_url, settings), state, settings)
        cpu, began = time.process_time(), time.perf_counter()
        for number in tqdm(range(RATE * SECONDS), desc=f"buffer, {RATE} responses/s", leave=False):
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            start, now = time.perf_counter(), time.time()
            writer.offer(Event(id=new_event_id(now), time=now, **fields))
            offers.append(time.perf_counter() - start)
        writer.flush(30)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        shed, size = writer.shed, writer.size
        writer.close()
    offers.sort()
    return {
        "responses_per_second": RATE * SECONDS / wall,
        "offer_seconds": {"p50": offers[len(offers) // 2], "p99": offers[len(offers) * 99 // 100]},
        "cpu_share_of_one_core": used / wall,
        "stored": size,
        "shed": shed,
    }


if __name__ == "__main__":
    print(json.dumps(parts(), indent=1))
