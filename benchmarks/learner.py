"""What learning costs beside TRL's GRPOTrainer: the same model, prompts, group size, steps and length, in turns.

    python -m benchmarks.learner [--shapes bundled 50M] [--rounds 5]

Both run the published objective (k3 weight .001, clip .2, one update a batch, AdamW) on a LoRA of rank 16 over all linear
layers, in fp32 and a process of their own, whose peak of resident memory is taken. TRL runs in the environment that `make
interop` makes for it, with its own defaults beside these. Figures are tokens trained a second, rollouts included, and peak
memory; loading and the first step are left out of the time and not of the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

import models
from evaluation import load_suite
from online.state.files import write_atomic

RESULT = Path("benchmarks/results/learner.json")
TRL = Path(".cache/interop/trl/bin/python")
"""Its own environment, which tests/interop/test_trl.py makes."""
PROMPTS, GROUP, TOKENS = 8, 8, 64
"""Prompts a step, responses to each, and tokens of a response at most."""
STEPS = {"bundled": 12, "50M": 4}
"""Steps of a round; the first warms up."""


def build(shape: str, cache: Path) -> Path:
    """The bundled model, random weights of 50M parameters with its tokenizer, or a folder's model."""
    if shape == "bundled":
        return models.bundled()
    if Path(shape).is_dir():
        return Path(shape)
    folder = cache / "learner-50M"
    if not (folder / "config.json").exists():
        config = Qwen3Config.from_pretrained(models.bundled())
        config.update({"hidden_size": 640, "intermediate_size": 1920, "num_hidden_layers": 10, "layer_types": None})
        config.update({"num_attention_heads": 10, "num_key_value_heads": 5, "head_dim": 64})
        Qwen3ForCausalLM(Qwen3Config(**{k: v for k, v in config.to_dict().items() if v is not None})).save_pretrained(folder)
        AutoTokenizer.from_pretrained(models.bundled()).save_pretrained(folder)
    return folder


def one(side: str, model: Path, prompts: Path, steps: int) -> dict[str, float]:
    """One run in a process of its own: {"tokens", "seconds", "peak_bytes"}."""
    root = Path(__file__).parents[1]
    program = {
        "ours": [sys.executable, "-m", "benchmarks.learner_ours"],
        "trl": [str(root / TRL), "-I", str(root / "benchmarks/learner_trl.py")],
    }[side]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    command = [*program, str(model), str(prompts), *map(str, (steps, PROMPTS, GROUP, TOKENS))]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"{side} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="what learning costs, beside TRL")
    parser.add_argument("--shapes", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(".cache/shapes"))
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    if not TRL.exists():
        raise SystemExit(f"{TRL} is missing: run tests/interop/test_trl.py once, as `make bench-learner` does.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="sirl-learner-") as folder:
        prompts = Path(folder, "prompts.json")
        harmful = [p for p in load_suite(models.suite("traffic")) if p.kind == "harmful" and len(p.messages) == 1]
        prompts.write_text(json.dumps([p.messages[0]["content"] for p in harmful]))
        for shape in args.shapes:
            model, seen = build(shape, args.cache).resolve(), {"ours": [], "trl": []}
            for number in tqdm(range(args.rounds), desc=shape, unit="round"):
                for side in (list(seen), list(seen)[::-1])[number % 2]:
                    seen[side].append(one(side, model, prompts, STEPS[shape]))
            rows.append(row(shape, seen))
            print(json.dumps(rows[-1], indent=1))
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "rows": rows}
    write_atomic(args.json, json.dumps(result, indent=1) + "\n")


def row(shape: str, seen: dict[str, list[dict[str, float]]]) -> dict:
    """Medians of each side, and of the ratios of neighbouring runs with the smallest and largest."""
    pace = {side: [run["tokens"] / run["seconds"] for run in runs] for side, runs in seen.items()}
    peak = {side: [run["peak_bytes"] for run in runs] for side, runs in seen.items()}
    found: dict = {"shape": shape, "rounds": len(seen["ours"])}
    for name, figure in (("tokens_per_second", pace), ("peak_bytes", peak)):
        ratios = [mine / theirs for mine, theirs in zip(figure["ours"], figure["trl"], strict=True)]
        found[name] = {side: statistics.median(values) for side, values in figure.items()}
        found[name]["ratio"] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return found


if __name__ == "__main__":
    main()
