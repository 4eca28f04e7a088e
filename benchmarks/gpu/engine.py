"""The engine's cell: what kept vLLM from running on the machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.results import Cell
from serving.engine.version import SUPPORTED, EngineError, installed

NEEDS = "2.13"
"""The torch that CUDA's vLLM of the supported version is built for (requirements/cuda.lock)."""
WHEELS = {"vllm 0.32.0": 326.5, "torch 2.13.0": 526.6}
"""Megabytes of the two largest wheels, as their index says, without some twenty of CUDA's libraries."""


def cells() -> Iterator[tuple[str, Cell]]:
    yield "engine, V1 and V2 runners", blocked


def blocked() -> dict[str, Any]:
    """Which vLLM is there, and why none was run."""
    try:
        found = " ".join(installed())
    except EngineError:
        found = "none"
    sizes = ", ".join(f"{name} {size:g} MB" for name, size in WHEELS.items())
    return {
        "vllm": found,
        "torch": torch.__version__,
        "blocked": (
            f"Not run: CUDA vLLM {SUPPORTED} is built for torch {NEEDS}. The machine has torch {torch.__version__} and no "
            f"network. The wheels of both ({sizes}), beside CUDA's libraries, were too large to be carried to it."
        ),
    }
