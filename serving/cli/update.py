"""`sirl update`: one SIRL update now."""

from __future__ import annotations

import argparse
from functools import partial

from serving.cli.command import LEARNING, command, give_way, installation


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command(commands, "update", run, "run one SIRL update: learn, calibrate, gate, promote", (*LEARNING, "learn"))


def run(args: argparse.Namespace) -> int:
    from online.operations.updates import sentence, update
    from serving.processes.server_process import own_engine

    give_way(args)
    here = installation(args)
    outcome = update(here, partial(own_engine, here.settings, here.model))
    print(sentence(outcome))
    print(f"report: {here.state.updates / outcome.id / 'report.html'}")
    return 1 if outcome.status in ("refused", "failed") else 0
