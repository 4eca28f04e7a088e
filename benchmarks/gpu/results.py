"""Results: one JSON file, written after every cell, so that a run that is cut off keeps what it has."""

from __future__ import annotations

import gc
import json
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from online.state.files import write_atomic

Cell = Callable[[], dict[str, Any]]
PACKAGES = ("torch", "triton", "transformers", "peft")


class Results:
    """What cells found, by name, with the machine and the date. A cell that fails leaves one sentence."""

    def __init__(self, path: Path, device: str, seconds: float) -> None:
        self.path, self.ends = path, time.monotonic() + seconds
        self.found: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(device), "cells": {}}

    def keep(self, name: str, cell: Cell, limit: float) -> None:
        """Run a cell for at most `limit` seconds, and no longer than the run, and write what it found or why it did not."""
        began, left = time.monotonic(), self.ends - time.monotonic()
        if left < 1:
            kept: dict[str, Any] = {"failed": "It was not run: the time of the run was over."}
        else:
            kept = tried(cell, min(limit, left))
        kept["cell_seconds"] = round(time.monotonic() - began, 1)
        self.found["cells"][name] = kept
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(self.found, indent=1) + "\n")
        print(name, json.dumps(kept), flush=True)


def tried(cell: Cell, limit: float) -> dict[str, Any]:
    """What the cell finds, or {"failed": one sentence}. Memory it took of a GPU is given back either way."""
    try:
        with within(limit):
            return cell()
    except Exception as error:  # whatever it is: the other cells go on, and this one says what it was
        first = (str(error).strip().splitlines() or ["no message"])[0]
        return {"failed": f"{type(error).__name__}: {first[:300]}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block once it has taken so long."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(device: str) -> dict[str, Any]:
    """What the figures are of."""
    facts: dict[str, Any] = {"device": device, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = None
    facts["torch"] = torch.__version__
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        facts |= {"device": card.name, "gib": round(card.total_memory / 2**30, 1), "cuda": torch.version.cuda}
        facts["multiprocessors"] = card.multi_processor_count
    return facts
