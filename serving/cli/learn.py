"""`sirl learn`: updates whenever they are due."""

from __future__ import annotations

import argparse
from functools import partial

from serving.cli.command import LEARNING, command, give_way, installation


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command(commands, "learn", run, "run updates when they are due", (*LEARNING, "learn"))


def run(args: argparse.Namespace) -> int:
    from online.operations.updates import learn
    from serving.processes.server_process import own_engine

    give_way(args)
    here = installation(args)
    learn(here, partial(own_engine, here.settings, here.model))
    return 0
