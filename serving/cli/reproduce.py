"""`sirl reproduce`: the published experiment on a model of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from online.settings.load import load
from serving.cli.command import command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "train a model as published: all weights, no gate"
    sub = command(commands, "reproduce", run, about, ("update",), model=None)
    sub.set_defaults(sirl_update_preset="paper")
    sub.add_argument("--model", required=True, help="model folder or hub name, such as Qwen/Qwen2.5-3B-Instruct")
    sub.add_argument("--data", help="JSON lines with `prompt`, or a hub dataset (default: PKU-Alignment/PKU-SafeRLHF)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the trained model and its report go")


def run(args: argparse.Namespace) -> int:
    from online.operations.reproduce import DATA, reproduce

    report = reproduce(args.model, args.data or DATA, args.out, load(args).update)
    print(f"{report.parent} holds the trained model\nreport: {report}")
    return 0
