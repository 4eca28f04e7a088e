"""`sirl serve [MODEL] [any flag of vllm serve]`: our flags are taken out, the rest is vLLM's."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from online.settings.flags import add_arguments
from online.settings.key import keys
from online.settings.load import load
from online.settings.settings import Settings
from serving.cli.command import stop_with_parent
from serving.engine.version import prepare_environment

CONDITIONS = ("chat_template", "chat_template_kwargs", "dtype")
"""Settings that are vLLM's as well."""
GROUPS = ("top", "guard", "buffer", "queue", "calibrate", "update", "gate", "release", "learn", "registry")


def run(argv: Sequence[str]) -> int:
    ours = parser()
    known, rest = ours.parse_known_args(argv)
    if known.while_parent:
        stop_with_parent()
    model = rest.pop(0) if rest and not rest[0].startswith("-") else None
    prepare_environment(bundled=model is None)
    from online.model.learnable import unlearnable
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
    served = resolve(model)
    args = engine_arguments(served, rest, settings, bundled=model is None)
    if known.learn and Path(served).is_dir() and (reason := unlearnable(Path(served), settings.queue.prompt_tokens)):
        print(f"sirl-guard: this model will not be learned, for {reason}.", flush=True)
    import uvloop

    learner = LearnerProcess(
        [args.model, *learner_flags(known, args)], settings.state_dir / "learner.log", supervise=known.learn
    )
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


def engine_arguments(model: str, given: Sequence[str], settings: Settings, *, bundled: bool) -> argparse.Namespace:
    """vLLM's arguments, by the flags it was given and by our settings, with a dtype where nobody gave one. Raises
    EngineError for a flag we refuse."""
    from online.model.conditions import declared_quantization
    from online.model.precision import precision_for
    from serving.engine import arguments

    args = arguments.parse(model, [*given, *vllm_flags(settings, given)], settings, bundled=bundled)
    folder = Path(model)
    free = args.dtype == "auto" and args.quantization is None and folder.is_dir()
    if free and declared_quantization(folder) is None:  # else vLLM knows best
        chosen = precision_for(folder)
        print(f"sirl-guard: dtype {chosen.dtype}, for {chosen.why} (--dtype takes another)", flush=True)
        args.dtype = chosen.dtype
    return args


def vllm_flags(settings: Settings, given: Sequence[str]) -> list[str]:
    """vLLM's own flags that our settings took, for they are the learner's too. They stand after those on the command line
    and would count before them, so what is named there is left out."""
    flags, words = [], [word.replace("_", "-") for word in given]
    if settings.chat_template is not None:
        flags += ["--chat-template", settings.chat_template]
    if settings.chat_template_kwargs and not any(word.startswith("--default-chat-template-kwargs") for word in words):
        flags += ["--default-chat-template-kwargs", json.dumps(settings.chat_template_kwargs)]
    if settings.dtype != "auto":
        flags += ["--dtype", settings.dtype]
    return flags


def learner_flags(known: argparse.Namespace, args: argparse.Namespace) -> list[str]:
    """The settings flags the server was given, for the learner it starts; and under which conditions `args` has vLLM serve,
    wherever they were given, for it calibrates and learns under the same."""
    flags = []
    for key in keys():
        if hasattr(known, key.dest) and key.group != "guard" and key.path not in CONDITIONS:
            flags += [key.flag, str(getattr(known, key.dest))]
    if hasattr(known, "sirl_config"):
        flags += ["--config", str(known.sirl_config)]
    if args.chat_template is not None:
        flags += ["--chat-template", str(args.chat_template)]
    if args.default_chat_template_kwargs:
        flags += ["--chat-template-kwargs", json.dumps(args.default_chat_template_kwargs)]
    return [*flags, "--dtype", str(args.dtype).removeprefix("torch.")]
