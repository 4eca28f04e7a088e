"""The course of an update on a real model: refusal mass on prompts that nobody learns from, step by step.

    python -m benchmarks.real_course --model DIR --prompts DIR --state DIR --json FILE [--own N] [--steps N] [--rate R]

`--state`: a state directory of `benchmarks.real_story`, with its calibration and its traffic. The version is learned as
`sirl update` learns it, without its looks and without the gate, and saved at each measurement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.sense_prompts import Row, chosen
from benchmarks.sense_rule import prompt_of, unseen
from evaluation.statistics import cluster_bootstrap
from guard.calibration import Calibration
from online.admission.queue import Queue
from online.events.buffer import Buffer
from online.model.added_tokens import added_tokens
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.precision import precision_for
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.state.files import write_atomic
from online.training.trainer import ADAPTER, Trainer
from online.training.training_set import TrainingSet, beside_own

LONGEST = 200
"""Tokens of a prompt at most."""
EACH = 36
"""Prompts of a shape, and of a set that looks harmful."""


def groups(llm: LocalModel, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what is told apart in the figures."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if len(llm.render(prompt_of(row).messages)) <= LONGEST:
            found.setdefault(row.set if row.shape == "borderline" else row.shape, []).append(row)
    return {name: every[:: max(1, len(every) // EACH)][:EACH] for name, every in found.items()}


def measured(llm: LocalModel, rows: dict[str, list[Row]], openings: Any, adapter: str | None) -> dict[str, Any]:
    """Mean mass of each group, with its interval over goals; of plain prompts by data set too."""
    found: dict[str, Any] = {}
    for name, some in rows.items():
        with torch.no_grad(), llm.adapter(adapter):
            masses = tree_mass(llm, [llm.render(prompt_of(row).messages) for row in some], openings).tolist()
        found[name] = cluster_bootstrap(masses, [row.goal for row in some]).to_dict()
        if name in ("plain", "jailbroken"):
            for source in sorted({row.source for row in some}):
                found[f"{name}, {source}"] = float(
                    np.mean([m for m, r in zip(masses, some, strict=True) if r.source == source])
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="the course of an update on a real model")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--own", type=int, default=0)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--preset", default="sensed")
    parser.add_argument("--versions", type=Path, help="where the version is saved at each measurement")
    args = parser.parse_args()
    given = {"preset": args.preset, "steps": args.steps, "own_prompts": args.own, "learning_rate": args.rate}
    settings = Settings.model_validate({"update": given, "queue": {"quarantine_hours": 0}})
    learn = settings.update
    llm = LocalModel.load(args.model, dtype=precision_for(args.model).torch)
    base = Calibration.load(args.state / "registry" / "base" / "calibration.json")
    rows = groups(llm, unseen(chosen(args.prompts), args.prompts))
    state = StateDir(args.state)
    with closing(Buffer(state.buffer_url, settings.buffer)) as buffer:
        queue = Queue.of(buffer, base.model, time.time(), settings, state.client_salt(), added_tokens(args.model))
        training_set, selection, left = TrainingSet.chosen(queue, llm, base, learn, settings.queue)
    bands = {name: len(getattr(selection, name)) for name in ("high", "grey", "low")}
    print(len(training_set.prompts), bands, left, {name: len(some) for name, some in rows.items()}, flush=True)
    selection = beside_own(llm, selection, base, learn)
    bands["with its own prompts"] = len(selection.prompts)
    course = [{"step": 0, "masses": measured(llm, rows, base.openings, None)}]
    trainer = Trainer(llm, selection, base.openings, learn)
    began = time.monotonic()
    while trainer.step < learn.steps:
        metrics = trainer.advance()
        if trainer.step % args.every == 0:
            masses = measured(llm, rows, base.openings, ADAPTER)
            course.append({"step": trainer.step, "seconds": time.monotonic() - began, "metrics": metrics, "masses": masses})
            told = {name: round(one["estimate"], 3) for name, one in masses.items() if isinstance(one, dict)}
            print(trainer.step, f"{time.monotonic() - began:.0f} s", told, flush=True)
            write_atomic(args.json, json.dumps({"bands": bands, "course": course}, indent=1) + "\n")
            if args.versions:
                (where := args.versions / str(trainer.step)).mkdir(parents=True, exist_ok=True)
                llm.save_adapter(ADAPTER, where)


if __name__ == "__main__":
    main()
