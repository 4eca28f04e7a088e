"""Peak memory of one step of learning on long prompts.

    python -m benchmarks.learner_memory [--model DIR] [--contested 2] [--anchors 2] [--tokens 1024]

One default step on random prompts of one length: as many are learned from and steered away from refusing as are contested,
and the anchors hold both KL terms. The peak goes by the largest batch, not by how many there are, so a few prompts show it.
Without a model the shape of Qwen2.5-0.5B is taken, with random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from transformers import AutoTokenizer

from benchmarks.shapes import build
from guard.calibration import Bands
from guard.openings import Openings
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.state.files import write_atomic
from online.training.selector import Selection
from online.training.trainer import Trainer

RESULTS = Path("benchmarks/results/learner-memory.json")
REFUSALS = ("I'm sorry, but I can't", "I'm sorry, I cannot", "I can't assist with", "Sorry, but I can't", "As an AI")
GIB = 2**30


def openings(model: Path) -> Openings:
    """A plausible tree: how refusals begin."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    spelled = {tuple(tokenizer.encode(text, add_special_tokens=False)) for text in REFUSALS}
    return Openings(tuple(sorted(spelled)))


def peak() -> float:
    """GiB of this process at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def step(model: Path, contested: int, anchors: int, tokens: int, longest: int, threads: int) -> dict[str, float]:
    """Peak GiB with the weights loaded and after a step, and how long it took."""
    torch.set_num_threads(threads)
    llm, luck = LocalModel.load(model), random.Random(0)
    weights, words = peak(), llm.model.config.vocab_size
    count = 2 * contested + anchors
    prompts = [tuple(luck.randrange(words - 1000) for _ in range(tokens)) for _ in range(count)]
    masses = [0.9] * contested + [0.2] * contested + [0.01] * anchors
    selection = Selection.sorted_by(Bands(0.1, 0.5), prompts, masses)
    settings = UpdateSettings(contested_per_step=contested, screened_per_step=count, max_tokens=longest)
    trainer, began = Trainer(llm, selection, openings(model), settings), time.monotonic()
    metrics = trainer.advance()
    seconds = time.monotonic() - began
    return {"weights_gib": round(weights, 2), "peak_gib": round(peak(), 2), "seconds": round(seconds)} | {
        name: metrics[name] for name in ("mass_contested", "mass_below", "gradient_norm")
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learner_memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="folder of a model; none: random weights of the shape of Qwen2.5-0.5B")
    parser.add_argument("--contested", type=int, default=2)
    parser.add_argument("--anchors", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of every prompt")
    parser.add_argument("--max-tokens", type=int, default=16, help="tokens of a response at most")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path(".cache/shapes"), help="where random models are kept")
    parser.add_argument("--json", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    model = args.model or build("realistic", args.folder)
    about = {name: vars(args)[name] for name in ("contested", "anchors", "tokens", "max_tokens", "threads")}
    found: dict[str, object] = {"date": datetime.now(UTC).date().isoformat(), "model": model.name} | about
    found |= step(model, args.contested, args.anchors, args.tokens, args.max_tokens, args.threads)
    write_atomic(args.json, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
