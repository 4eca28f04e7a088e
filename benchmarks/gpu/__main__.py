"""What a GPU shows: the probe's kernel against its bandwidth, the learner's parity with the CPU, its speed and memory.

    scripts/gpu-check [--out FILE] [--seconds 570]      on a machine with a CUDA device, without a network
    scripts/gpu-check --dry-run                         the same ways on a CPU, in small

Needs torch, transformers, peft, safetensors, pydantic and croniter, and no vLLM. The file is written after every cell.
`python -m docs.gpu` makes docs/evidence/gpu.md of it.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch

from benchmarks.gpu import engine, learner, parity, probe
from benchmarks.gpu.results import Results
from benchmarks.gpu.sizes import DRY, FULL

RESULT, DRY_RESULT = Path("benchmarks/results/gpu.json"), Path("build/gpu-check.json")
LIMIT_S = 150.0
"""Seconds that a cell may take."""
COMPILER_S = 60.0
"""Seconds that torch's compiler may take for one precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description="what a GPU shows of the probe and the learner")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in small")
    parser.add_argument("--out", type=Path, help=f"the file ({RESULT}; of a dry run {DRY_RESULT})")
    parser.add_argument("--seconds", type=float, default=570.0, help="after which no cell begins or goes on")
    args = parser.parse_args()
    sizes = DRY if args.dry_run else FULL
    if sizes.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("scripts/gpu-check: torch finds no CUDA device: use a machine that has one, or --dry-run.")
    results = Results(args.out or (DRY_RESULT if args.dry_run else RESULT), sizes.device, args.seconds)
    for name, cell in itertools.chain(engine.cells(), probe.cells(sizes), parity.cells(sizes), learner.cells(sizes)):
        results.keep(name, cell, LIMIT_S)
    for name, cell in probe.compiled_cells(sizes):
        results.keep(name, cell, COMPILER_S)
    failed = [name for name, found in results.found["cells"].items() if "failed" in found]
    print(f"{results.path}: {len(results.found['cells'])} cells, {len(failed)} failed {failed or ''}")


if __name__ == "__main__":
    main()
