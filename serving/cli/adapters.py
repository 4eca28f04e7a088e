"""`sirl adapters`: list versions, adopt one, have it serve, take it back, keep it, share it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from serving.cli.command import LEARNING, command, installation

if TYPE_CHECKING:
    from online.operations.installation import Installation

ACTIONS = ("list", "import", "gate", "release", "activate", "withdraw", "rollback", "pin", "unpin", "sign", "gc", "sync")
ACTOR = "cli"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = (
        "list, import (and gate), gate again what was left undecided, release by stages, activate at once, take back, roll "
        "back, pin, sign, collect (gc) or share (sync) adapters"
    )
    sub = command(commands, "adapters", run, about, LEARNING, model="--model")
    sub.add_argument("--force", action="store_true", help="activate although the gate rejected it")
    sub.add_argument("--no-gate", dest="gate", action="store_false", help="import only: leave it a candidate")
    sub.add_argument("action", choices=ACTIONS)
    sub.add_argument("target", nargs="?", help="a version (v3, base), or for import a PEFT adapter folder")


def run(args: argparse.Namespace) -> int:
    here = installation(args)
    if args.action == "list":
        listed(here)
        return 0
    act(here, args)
    if args.action != "sync":
        here.synchronise()
    return 0


def gated(here: Installation, version: int) -> str:
    """Gate a version; what came of it, in a sentence."""
    from online.operations.gating import gate
    from online.operations.updates import sentence

    return sentence(gate(here, version))


def listed(here: Installation) -> None:
    from online.operations.versions import named

    for adapter in here.registry.versions():
        print(f"{adapter.name}\t{adapter.state}\t{adapter.decision or ''}" + ("\tpinned" if adapter.pinned else ""))
    print(f"live: {named(here.registry.live())}")
    if release := here.registry.releasing():
        print(f"on its way: v{release.version}, {release.stage}, a share of {release.share:g}")


def act(here: Installation, args: argparse.Namespace) -> None:
    """One act on a version, and a sentence about it."""
    from online.operations import versions

    target = args.target or ""
    match args.action:
        case "import":
            version = versions.adopt(here, Path(target or "."))
            print(f"imported as v{version}, a candidate")
            if args.gate:
                print(gated(here, version))
        case "gate":
            version = versions.version_of(target)
            here.registry.manifest(version)  # said at once where there is none
            print(gated(here, version))
        case "activate":
            wanted = None if target == "base" else versions.version_of(target)
            versions.activate(here, wanted, actor=ACTOR, force=args.force)
            print(f"{target} is live: a running server takes it up within a second.")
        case "release":
            version = versions.version_of(target)
            stage = versions.release(here, version, actor=ACTOR)
            print(f"v{version} is {'live' if stage is None else f'on its way: {stage}'}.")
        case "withdraw":
            versions.withdraw(here, actor=ACTOR)
            print("Nothing is on its way to serve.")
        case "rollback":
            print(f"{versions.named(versions.roll_back(here, actor=ACTOR))} is live again.")
        case "pin":
            versions.pin(here, version := versions.version_of(target), actor=ACTOR)
            print(f"v{version} is pinned: it stays until it is unpinned.")
        case "unpin":
            versions.unpin(here, version := versions.version_of(target), actor=ACTOR)
            print(f"v{version} is not pinned.")
        case "sign":
            signed = ", ".join(versions.sign(here, version := versions.version_of(target)))
            print(f"signed of v{version}: {signed or 'nothing, for all of it was'}.")
        case "gc":
            gone = ", ".join(f"v{version}" for version in versions.collect(here, actor=ACTOR))
            print(f"the weights of {gone or 'no version'} are deleted.")
        case "sync":
            versions.sync(here)
            print("the registry and the store are the same.")
