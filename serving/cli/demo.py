"""`sirl demo`: the whole story in some minutes."""

from __future__ import annotations

import argparse
from pathlib import Path

from serving.cli.command import command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = command(commands, "demo", run, "serve, watch, learn, swap: the whole story in some minutes")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table's figures to FILE")
    sub.add_argument("--families", type=Path, metavar="FILE", help="JSON lines of attack wrappers to test with as well")
    sub.add_argument("--quick", action="store_true", help="the whole path in a few minutes, on too little to show a rise")
    sub.add_argument("--prompts", type=int, help="test prompts a class and measurement (default 60, with --quick 12)")
    sub.add_argument("--seed", type=int, default=0, help="seed of traffic, tests and update")
    sub.add_argument("--keep", type=Path, metavar="DIR", help="keep the state directory here")


def run(args: argparse.Namespace) -> int:
    from serving.demo import run_demo

    return run_demo(args)
