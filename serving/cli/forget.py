"""`sirl forget`: delete what clients sent, with all that was learned from it."""

from __future__ import annotations

import argparse
from functools import partial

from guard.errors import SirlError
from serving.cli.command import LEARNING, command, installation


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "delete events, destroy the adapters that learned from them, teach anew what served"
    sub = command(commands, "forget", run, about, LEARNING)
    sub.add_argument("--client", action="append", default=[], help="API key, address, or the hash that events show")
    sub.add_argument("--event", action="append", default=[], help="id of one event, as responses and `sirl explain` show it")


def run(args: argparse.Namespace) -> int:
    from online.operations.forgetting import forget
    from serving.processes.server_process import own_engine

    if not args.client and not args.event:
        raise SirlError("nothing is named to be forgotten: give --client or --event.")
    here = installation(args)
    for line in forget(here, args.client, args.event, partial(own_engine, here.settings, here.model)):
        print(line, flush=True)
    return 0
