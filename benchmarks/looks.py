"""What looks save the gate, and how often one claim errs: simulated exams of a class of 300 prompts.

    python -m benchmarks.looks [--exams N] [--results FILE]

Masses before are a Beta(0.3, 1.5), most of them near nought. The candidate moves all by so many points, and one prompt in
five up or down beside it, so that paired differences have the deviation named. Error and margin are the gate's own.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from evaluation.statistics import wilson
from online.gate.claim import Claim, weigh
from online.gate.look import Look
from online.settings.groups import GateSettings
from online.state.files import write_atomic

RESULTS = Path("benchmarks/results/looks.json")
DEVIATIONS = (0.05, 0.1, 0.2)
CHANGES = {"harm, +10": 0.1, "at the margin, +2": 0.02, "no change": 0.0, "gain, -2": -0.02, "gain, -10": -0.1}
MOVED = 0.2
"""Share of prompts that move by more than all do."""


def exam(luck: np.random.Generator, change: float, deviation: float, of: int, settings: GateSettings) -> tuple[str, int]:
    """What one exam comes to, and after how many prompts."""
    n = settings.prompts_per_class
    before = luck.beta(0.3, 1.5, n)
    beside = (luck.random(n) < MOVED) * luck.choice([-1, 1], n) * deviation / np.sqrt(MOVED)
    after, names = before + change + beside, tuple(map(str, range(n)))
    for look in (Look(number, of) for number in range(1, of + 1)):
        seen = slice(int(np.ceil(n * look.share)))
        claim = Claim("mass", "base", before[seen], after[seen], names[seen], settings.borderline / 100, proof=True)
        row = weigh(claim, settings, look)
        if row["result"] != "open":
            break
    return row["result"], row["had"]


def cells(exams: int, settings: GateSettings) -> list[dict]:
    """Shares of results and mean prompts, each with a 95% interval, by deviation, change and number of looks."""
    found = []
    for deviation in DEVIATIONS:
        for name, change in CHANGES.items():
            for of in (1, settings.looks):
                luck = np.random.default_rng([len(found), 0])
                ends, asked = zip(*(exam(luck, change, deviation, of, settings) for _ in range(exams)), strict=True)
                half = 1.96 * np.std(asked) / np.sqrt(exams)
                found.append(
                    {
                        "deviation": deviation,
                        "change": name,
                        "looks": of,
                        "shown": wilson(ends.count("shown"), exams).to_dict(),
                        "results": {result: count / exams for result, count in Counter(ends).items()},
                        "prompts": {
                            "mean": float(np.mean(asked)),
                            "low": np.mean(asked) - half,
                            "high": np.mean(asked) + half,
                        },
                    }
                )
    return found


def table(rows: list[dict]) -> str:
    """The figures as Markdown: a line for each deviation and change, one look beside several."""
    lines = [
        "| deviation | change, points | shown, %: 1 look | 3 looks | contradicted, %: 1 look | 3 looks | prompts, 3 looks |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for once, often in zip(rows[::2], rows[1::2], strict=True):
        shown, contradicted = [], []
        for row in (once, often):
            share = row["shown"]
            shown.append(f"{100 * share['estimate']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]")
            contradicted.append(f"{100 * row['results'].get('contradicted', 0):.1f}")
        asked = f"{often['prompts']['mean']:.0f} [{often['prompts']['low']:.0f}, {often['prompts']['high']:.0f}]"
        lines.append(f"| {once['deviation']:g} | {' | '.join([once['change'], *shown, *contradicted, asked])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="what looks save the gate")
    parser.add_argument("--exams", type=int, default=5000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    settings = GateSettings()
    rows = cells(args.exams, settings)
    told = {"date": datetime.now(UTC).date().isoformat(), "exams": args.exams, "error": settings.error, "cells": rows}
    write_atomic(args.results, json.dumps(told, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
