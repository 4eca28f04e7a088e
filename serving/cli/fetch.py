"""`sirl fetch`: a published model by its name, as a folder."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from online.fetch.catalogue import NAMES, find
from serving.cli.command import command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "get a published model; the last line of output is its folder"
    sub = command(commands, "fetch", run, about, None, model=None)
    sub.add_argument("name", help=f"one of {', '.join(NAMES)}")
    sub.add_argument("--to", type=Path, metavar="DIR", help="the folder to make (default: one in the user's cache)")


def run(args: argparse.Namespace) -> int:
    from online.fetch import folder

    published = find(args.name)
    where = folder.default(published.name) if args.to is None else args.to
    print(folder.fetch(published, where, tell=partial(print, file=sys.stderr)))
    return 0
