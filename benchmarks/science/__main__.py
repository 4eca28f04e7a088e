"""The evidence of docs/evidence/science.md: what learning does to base models, preset by preset, and what no training would
have done.

    python -m benchmarks.science [--bases 0 1] [--seeds 0 1] [--runs base anchored ...] [--every N]

For each base: calibrate on the calibration split (labelled), learn from the unlabelled traffic suite, then ask the prompts
of the test split at temperature 1 (harmful ones four times, for their cells are small) and once greedily. No threshold or
setting is chosen on the test split. The gate is left out: this measures what learning does, not what would be let through.

Every finished run goes into docs/science/results.json at once and is not run again while what it was made from (model,
suites, settings, number of draws) stays the same; docs/science/tables.md and the plots beside it are drawn from that file.
Intervals are bootstrapped over wrapper families, and over actions where there is no wrapper.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

import models
from benchmarks.science.base import CACHE, Base, base_model
from benchmarks.science.chains import CHAINS, LINKS
from benchmarks.science.results import Results
from benchmarks.science.runs import (
    GUARDED,
    LABELLED,
    RUNS,
    UNTRAINED,
    Records,
    made_from,
    taught,
    taught_by_labels,
    untrained,
)
from benchmarks.science.show import show
from evaluation import load_suite

RESULTS = Path("docs/science/results.json")


def names(run: str) -> tuple[str, ...]:
    """Under which a run's records are kept."""
    if run in CHAINS:
        return LINKS[run]
    return (run, GUARDED[run]) if run in GUARDED else (run,)


def begun(base: Base, run: str, seed: int) -> Records:
    """A run's records as they come."""
    if run in CHAINS:
        return CHAINS[run](base, seed)
    return (taught_by_labels if run in LABELLED else taught)(base, run, seed)


def measure(results: Results, base: Base, runs: Iterable[str], seeds: Sequence[int], facts: dict[str, object]) -> None:
    """All runs on one base that are not there yet."""
    work = [("base", UNTRAINED, 0)]
    work += [(run, names(run), seed) for run in runs if run not in UNTRAINED for seed in seeds]
    for run, kept, seed in work:
        key = made_from(base, run, seed)
        if not results.done(kept, base.number, seed, key):
            records = untrained(base, base.number) if run == "base" else begun(base, run, seed)
            for name, found in records:
                results.keep(name, base.number, seed, key, found, facts)


def main() -> None:
    parser = argparse.ArgumentParser(description="what learning does, preset by preset, on the test split")
    every = (*RUNS, *CHAINS)
    parser.add_argument("--bases", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", nargs="+", default=list(every), choices=every)
    parser.add_argument("--every", type=int, default=1, help="ask each Nth test prompt only, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    CACHE.mkdir(parents=True, exist_ok=True)
    prompts = load_suite(models.suite("test"))[:: args.every]
    results = Results(args.results)
    for number in args.bases:
        facts = {"machine": f"{platform.machine()}, torch {torch.__version__}"}
        measure(results, Base(number, base_model(number), prompts), args.runs, args.seeds, facts)
    print(show(results, args.results.parent))


if __name__ == "__main__":
    main()
