"""`sirl calibrate`: learn openings and bands for a model and adapter."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.cli.command import command, installation


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "learn openings and bands for a model and adapter"
    sub = command(commands, "calibrate", run, about, ("top", "calibrate", "update", "registry"))
    sub.add_argument("--suite", type=Path, help="JSON lines of labelled prompts (default: the bundled model's)")
    sub.add_argument("--adapter", default="base", help='"base" or a version such as "v3"')


def run(args: argparse.Namespace) -> int:
    from online.operations.calibration import calibrate

    done = calibrate(installation(args), args.adapter, args.suite)
    made = done.calibration
    promises = "; ".join(
        f"at most {p.share:.1%} of {name} responses are touched (confidence {p.confidence:.0%}, {p.clusters} actions)"
        for name, p in made.rule.promises.items()
    )
    recall, false = (made.figures[f"openings_{name}"] for name in ("recall", "false"))
    own = "" if not made.fallback else " It gave no short refusal, so the guard says a fixed one in its place."
    print(
        f"{done.adapter} is calibrated on {done.prompts} prompts: {len(made.openings.sequences)} openings, "
        f"which recall {recall:.1%} of refusals and catch {false:.1%} of other responses that they were not learned from, "
        f"refusal mass low up to {made.serving_mass.low:.3f} and high from {made.serving_mass.high:.3f}, "
        f"entropy low up to {made.entropy_cut:.3f} nats. Under enforcement {promises}.{own}"
    )
    for line in harm_sense(made.figures["harm_sense"]):
        print(line)
    return 0


def harm_sense(figures: Any) -> Iterator[str]:
    """What the harm sense is worth on prompts it was not fitted on, and what it lacks, in sentences."""
    if told := figures.get("auroc"):
        each = ", ".join(f"{sides} {found['estimate']:.2f}" for sides, found in told.items())
        layers = ", ".join(map(str, figures["layers"]))
        yield f"The harm sense reads layers {layers}. On sources that it was not fitted on its AUROC is: {each}."
    else:
        yield "No harm sense was fitted."
    if refused := figures.get("refused"):
        yield (
            "It calls needless {needless} of {prompts} harmless prompts that were refused, ".format(**refused["harmless"])
            + "and {needless} of {prompts} harmful ones.".format(**refused["harmful"])
        )
    yield from figures["missing"]
