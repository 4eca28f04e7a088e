"""The learner on a GPU against the learner on the CPU: the bundled model, the same prompts, seeds and steps, in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import models
from benchmarks.gpu.results import Cell
from benchmarks.gpu.sizes import Sizes
from evaluation import load_suite
from guard.calibration import Calibration
from guard.openings import Tokens
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.settings.groups import UpdateSettings
from online.training.selector import Selection
from online.training.trainer import ADAPTER, Trainer

ASKED = 64
"""Prompts that are answered."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a device made: the history of the steps, and the adapter's matrices by name."""

    history: list[dict[str, float]]
    adapter: dict[str, Tensor]


def cells(sizes: Sizes) -> Iterator[tuple[str, Cell]]:
    """Masses and entropies, then some steps."""
    yield "parity, passes", lambda: passes(sizes)
    yield "parity, steps", lambda: steps(sizes)


@cache
def asked(count: int) -> tuple[Tokens, ...]:
    """Distinct prompts of the traffic."""
    llm = LocalModel.load(models.bundled(), device="cpu")
    rendered = (llm.render(prompt.messages) for prompt in load_suite(models.suite("traffic"))[: 2 * count])
    return tuple(dict.fromkeys(rendered))[:count]


def calibration() -> Calibration:
    return Calibration.load(models.bundled() / "calibration.json")


@cache
def masses(device: str, count: int) -> Tensor:
    """Tree masses of the base, shape (prompts,), on the CPU."""
    llm = LocalModel.load(models.bundled(), device=device)
    with torch.no_grad():
        return tree_mass(llm, asked(count), calibration().openings).double().cpu()


def passes(sizes: Sizes) -> dict[str, Any]:
    """Largest difference of masses; share of responses that are equal; of those, of entropies and log-probabilities."""
    prompts = asked(sizes.prompts)[:ASKED]
    ours, theirs = (
        generate(LocalModel.load(models.bundled(), device=device), prompts, max_tokens=64)
        for device in (sizes.device, "cpu")
    )
    same = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.tokens == b.tokens]

    def apart(name: str) -> float:
        return max(
            (abs(x - y) for a, b in same for x, y in zip(getattr(a, name), getattr(b, name), strict=True)), default=0.0
        )

    return {
        "prompts": sizes.prompts,
        "mass_max_difference": (masses(sizes.device, sizes.prompts) - masses("cpu", sizes.prompts)).abs().max().item(),
        "responses": len(ours),
        "responses_equal": len(same) / len(ours),
        "entropy_max_difference": apart("entropies"),
        "logprob_max_difference": apart("logprobs"),
    }


def learned(sizes: Sizes, device: str) -> Learned:
    """Steps from the base, on prompts that are sorted by the CPU's masses."""
    llm, base = LocalModel.load(models.bundled(), device=device), calibration()
    selection = Selection.sorted_by(base.tree_mass, asked(sizes.prompts), masses("cpu", sizes.prompts).tolist())
    trainer = Trainer(llm, selection, base.openings, UpdateSettings(**sizes.update))
    for _ in range(sizes.steps):
        trainer.advance()
    with tempfile.TemporaryDirectory() as folder:
        llm.save_adapter(ADAPTER, Path(folder))
        return Learned(trainer.history, load_file(Path(folder, "adapter_model.safetensors")))


def steps(sizes: Sizes) -> dict[str, Any]:
    """Largest differences of metrics by step, and of the adapters; and whether the device gives the same bits twice."""
    theirs, ours, again = (learned(sizes, device) for device in ("cpu", sizes.device, sizes.device))
    return {
        "steps": sizes.steps,
        "metrics_max_difference": [
            {name: abs(mine[name] - its[name]) for name in mine.keys() & its.keys() if name != "step"}
            for mine, its in zip(ours.history, theirs.history, strict=True)
        ],
        "adapter_max_difference": max((ours.adapter[k] - theirs.adapter[k]).abs().max().item() for k in theirs.adapter),
        "adapter_relative_difference": relative(ours.adapter, theirs.adapter),
        "twice_the_same_bits": all(torch.equal(ours.adapter[k], again.adapter[k]) for k in ours.adapter),
        "twice_relative_difference": relative(again.adapter, ours.adapter),
    }


def relative(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference over the norm of the other, of the matrices that begin at zero: the rest barely moves."""
    moved = [name for name in other if "lora_B" in name]
    apart = torch.cat([(one[name] - other[name]).flatten() for name in moved]).norm()
    return (apart / torch.cat([other[name].flatten() for name in moved]).norm()).item()
