"""`sirl repeat`: whether the same events teach the same adapter."""

from __future__ import annotations

import argparse

from serving.cli.command import command, installation


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "teach an adapter once more from its ledger and compare it bit for bit"
    sub = command(commands, "repeat", run, about, ("top", "buffer", "registry"), model="--model")
    sub.add_argument("version", help="such as v7")


def run(args: argparse.Namespace) -> int:
    from online.operations.repetition import repeat
    from online.operations.versions import version_of

    there, again = repeat(installation(args), version_of(args.version))
    same = there == again
    print(f"{args.version} came out {'the same, bit for bit' if same else 'otherwise'}: sha256 {there}, and now {again}")
    return 0 if same else 1
