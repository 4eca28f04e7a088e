"""What a real model costs here by part: masses, answers and a step of the learner, and its trainer beside TRL's.

    python -m benchmarks.real_cost --model FOLDER --prompts DIR [--parts step trl]

The model was calibrated by `benchmarks.real_story`, whose state directory is read. Every part runs in a process of its own,
whose peak of resident memory is taken, and is written to the results when it ends; one that is there already is not run
again unless it is named by `--parts`.

`--prompts`: a folder of collected prompts, as benchmarks/real.py reads them. The model's name is its folder's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import learner
from benchmarks.real import SEEN, sorted_out, suite
from guard.calibration import Calibration
from online.state.files import write_atomic

RESULT = Path("benchmarks/results/bench-real.json")
PARTS = ("step", "trl")
SCORED, ANSWERED = 24, 24
"""Prompts whose masses and whose answers are timed."""
TRL_STEPS, TRL_ROUNDS = 2, 1
"""Steps of a run beside TRL, of which the first warms up, and runs of each side."""


def step(model: Path, prompts: Path, state: Path) -> dict[str, Any]:
    """Masses, answers, and steps of an update at its defaults on unlabelled prompts."""
    import torch

    from benchmarks.gpu.learner import step as measured
    from online.model.local_model import LocalModel
    from online.model.precision import precision_for
    from online.settings.groups import UpdateSettings

    torch.set_num_threads(os.cpu_count() or 1)
    llm, settings = LocalModel.load(model, dtype=precision_for(model).torch), UpdateSettings()
    path = state / "registry" / "base" / "calibration.json"
    openings = Calibration.load(path).openings
    asked = [llm.render(prompt.messages) for prompt in suite(sorted_out(prompts)["traffic"], SEEN)]
    found = measured(llm, asked[: settings.screened_per_step], openings, settings, scored=SCORED, answered=ANSWERED)
    found["step_prompt_tokens"] = sum(map(len, asked[: settings.screened_per_step])) / settings.screened_per_step
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"step_peak_gb": peak, "step": found}


def beside_trl(model: Path, prompts: Path, state: Path) -> dict[str, Any]:
    """Our trainer by the published objective over TRL's: pace (over 1 is faster) and peak memory (under 1 is less)."""
    path = state / "prompts.json"
    path.write_text(json.dumps([prompt.text for prompt in sorted_out(prompts)["traffic"]["harmful"]]))
    runs = {side: [learner.one(side, model, path, TRL_STEPS) for _ in range(TRL_ROUNDS)] for side in ("ours", "trl")}
    row = learner.row(model.name, runs)
    return {
        "trl_pace": row["tokens_per_second"]["ratio"]["median"],
        "trl_memory": row["peak_bytes"]["ratio"]["median"],
        "trl": row,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="what a real model costs here")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=Path(".cache/real-story"), help="where calibrations are kept")
    parser.add_argument("--parts", nargs="*", choices=PARTS)
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--alone", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    state = (args.state / args.model.name).resolve()
    works: dict[str, Callable[[], dict[str, Any]]] = {
        "step": lambda: step(args.model, args.prompts, state),
        "trl": lambda: beside_trl(args.model, args.prompts, state),
    }
    if args.alone:
        print(json.dumps(works[args.alone]()))
        return
    for part in args.parts or PARTS:
        every = json.loads(args.json.read_text()) if args.json.exists() else {}
        mine = every.setdefault(args.model.name, {})
        if part in mine.get("parts", {}) and not args.parts:
            continue
        command = [sys.executable, "-m", "benchmarks.real_cost", *sys.argv[1:], "--alone", part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        mine |= json.loads(done.stdout.splitlines()[-1])
        mine["parts"] = mine.get("parts", {}) | {part: f"{date.today()}, {os.cpu_count()} CPUs"}
        write_atomic(args.json, json.dumps(every, indent=1) + "\n")
        print(part, json.dumps({key: value for key, value in mine.items() if not isinstance(value, dict)}), flush=True)


if __name__ == "__main__":
    main()
