"""`sirl explain`: which events taught an adapter."""

from __future__ import annotations

import argparse
import json

from online.settings.load import load
from serving.cli.command import command, moment


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = command(commands, "explain", run, "list the events that taught an adapter", model=None)
    sub.add_argument("version", help="such as v7")
    sub.add_argument("--json", action="store_true", help="print the ledger as JSON")


def run(args: argparse.Namespace) -> int:
    from online.operations.versions import ledger, version_of
    from online.state.directory import StateDir

    version = version_of(args.version)
    found = ledger(StateDir(load(args).state_dir), version)
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return 0
    clients, prompts = ({getattr(entry, name) for entry in found.entries} for name in ("client", "prompt"))
    print(f"v{version} was taught by {len(found.entries)} events: {len(prompts)} prompts of {len(clients)} clients")
    for entry in found.entries:
        print(f"{moment(entry.time)}\t{entry.id}\tclient {entry.client}\tprompt {entry.prompt}\t{entry.band}")
    return 0
