"""`sirl queue`: which prompts the next update may learn from, and decisions about them."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from guard.errors import SirlError
from serving.cli.command import command, installation, moment

if TYPE_CHECKING:
    from online.operations.installation import Installation

SENDERS = 3
"""Clients of a prompt that are listed; --json has all."""
ACTOR = "cli"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = "show which prompts the next update may learn from, and decide about them"
    sub = command(commands, "queue", run, about, ("top", "buffer", "queue"), model="--model")
    sub.add_argument("action", nargs="?", default="list", choices=("list", "approve", "exclude", "reset", "redact"))
    sub.add_argument("--prompt", action="append", default=[], metavar="HASH", help="a prompt, by the hash that is listed")
    sub.add_argument("--client", action="append", default=[], help="API key, address, or the hash that is listed")
    sub.add_argument("--all", action="store_true", help="list what is admitted as well")
    sub.add_argument("--text", action="store_true", help="show the prompts' texts")
    sub.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    from online.operations import queue

    here = installation(args)
    if args.action == "redact":
        if args.client:
            raise SirlError("what is redacted is a prompt: use `sirl forget` for a client.")
        if not args.prompt:
            raise SirlError("nothing is named to redact: give --prompt or --client.")
        print(f"{queue.redact(here, args.prompt, actor=ACTOR)} events are redacted.")
        return 0
    if args.action != "list":
        if not args.prompt and not args.client:
            raise SirlError(f"nothing is named to {args.action}: give --prompt or --client.")
        if args.prompt:
            queue.decide(here, "prompt", args.prompt, args.action, actor=ACTOR)
        if args.client:
            queue.decide(here, "client", queue.client_hashes(here, args.client), args.action, actor=ACTOR)
    show(here, args)
    return 0


def show(here: Installation, args: argparse.Namespace) -> None:
    """The queue as it is now, as lines or JSON."""
    from online.admission.review import described
    from online.operations import queue

    found = queue.look(here)
    shown = [described(one, text=args.text) for one in found.prompts if args.all or not one.admitted]
    if args.json:
        print(json.dumps({"counts": found.counts(), "prompts": shown}, indent=1))
        return
    print(", ".join(f"{count} {fate}" for fate, count in found.counts().items()))
    if found.excluded:
        print(f"excluded clients: {', '.join(found.excluded)}")
    tokens = {one.token for one in found.prompts if one.token is not None}
    for token, word in (queue.words(here, tokens) if args.text else {}).items():
        print(f"token {token} is {word!r}")
    for one in shown:
        sent = f"{', '.join(one['clients'][:SENDERS])}{', ...' if len(one['clients']) > SENDERS else ''}"
        line = f"{moment(one['time'])}\t{one['prompt']}\t{one['fate']}\t{one['why']}\tclients {sent}"
        print(line + (f"\t{one['text']!r}" if args.text else ""))
