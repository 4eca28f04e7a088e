"""`sirl serve [MODEL] [any flag of vllm serve]`: our flags are taken out, the rest is vLLM's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from online.settings.flags import add_arguments
from online.settings.key import keys
from online.settings.load import load
from serving.cli.command import stop_with_parent
from serving.engine.version import prepare_environment

GROUPS = ("top", "guard", "buffer", "queue", "calibrate", "update", "gate", "release", "learn", "registry")


def run(argv: Sequence[str]) -> int:
    ours = parser()
    known, rest = ours.parse_known_args(argv)
    if known.while_parent:
        stop_with_parent()
    model = rest.pop(0) if rest and not rest[0].startswith("-") else None
    prepare_environment(bundled=model is None)
    from serving.app import Application
    from serving.engine import arguments, server
    from serving.engine.rollouts import SHARE
    from serving.model_check import resolve
    from serving.processes.learner_process import LearnerProcess

    if known.help:
        ours.print_help()
        print("\nAll flags of `vllm serve` (of which those the guard cannot work with are refused by name):\n")
        arguments.parser().print_help()
        return 0
    settings = load(known)
    if settings.chat_template is not None:
        rest += ["--chat-template", settings.chat_template]  # vLLM's own flag: ours took it, for it is the learner's too
    args = arguments.parse(resolve(model), rest, settings, bundled=model is None)
    flags = learner_flags(known)
    if args.chat_template is not None and settings.chat_template is None:  # from vLLM's own --config file
        flags += ["--chat-template", str(args.chat_template)]
    import uvloop

    learner = LearnerProcess([args.model, *flags], settings.state_dir / "learner.log", supervise=known.learn)
    prepare = partial(Application.of, settings, Path(args.model), learner)
    uvloop.run(server.serve(args, settings, prepare, share=1 if known.rollouts_only else SHARE))
    return 0


def parser() -> argparse.ArgumentParser:
    """Of our own flags."""
    ours = argparse.ArgumentParser(prog="sirl serve", add_help=False, allow_abbrev=False)
    add_arguments(ours, GROUPS, config_flag="--guard-config")
    ours.add_argument("--learn", action="store_true", help="start and supervise the learner beside the server")
    ours.add_argument("--while-parent", action="store_true", help=argparse.SUPPRESS)
    ours.add_argument("--rollouts-only", action="store_true", help=argparse.SUPPRESS)
    ours.add_argument("-h", "--help", action="store_true")
    return ours


def learner_flags(known: argparse.Namespace) -> list[str]:
    """The settings flags the server was given, for the learner it starts."""
    flags = []
    for key in keys():
        if hasattr(known, key.dest) and key.group != "guard":
            flags += [key.flag, str(getattr(known, key.dest))]
    if hasattr(known, "sirl_config"):
        flags += ["--config", str(known.sirl_config)]
    return flags
