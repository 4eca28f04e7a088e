"""vLLM's arguments: its own parser, our defaults under the operator's flags, and the flags that are refused."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from online.registry.release_stages import stages
from online.settings.settings import Settings
from serving.engine.lora_budget import ROOM, TRIALS
from serving.engine.version import EngineError, require_supported

FORBIDDEN = {
    "headless": "there would be no HTTP server for the guard to sit in",
    "grpc": "gRPC responses do not pass the guard",
    "grpc_port": "gRPC responses do not pass the guard",
    "worker_extension_cls": "the guard's probe is the worker extension",
    "enable_elastic_ep": "workers that join later would have no probe",
    "data_parallel_multi_port_external_lb": "every server would need a state directory of its own",
    "tokens_only": "responses without text cannot be learned from",
    "skip_tokenizer_init": "responses without text cannot be learned from",
    "data_parallel_rank": "one process must see every response",
}
"""vLLM flags that cannot work with the guard, each with its reason."""


def parser() -> argparse.ArgumentParser:
    """vLLM's own `serve` parser."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser(prog="sirl serve", add_help=False, allow_abbrev=False))


def parse(model: str, flags: Sequence[str], settings: Settings, *, bundled: bool) -> argparse.Namespace:
    """vLLM's arguments for `model` with our defaults under the operator's flags. Raises EngineError for one we refuse."""
    require_supported()
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args

    given = named(flags)
    if "--model" in given:
        raise EngineError("--model (or model: in vLLM's --config file) is not read: name the model first, sirl serve MODEL.")
    args = parser().parse_args([model, *defaults(given, settings, bundled=bundled), *flags])
    args.model = args.model_tag
    args.ranks_clients = "--scheduling-policy" in given  # else that policy is our choice, for rollouts alone
    for name, reason in FORBIDDEN.items():
        if getattr(args, name, None):
            raise EngineError(f"--{name.replace('_', '-')} cannot be used with the guard, for {reason}: leave it out.")
    if (args.api_server_count or 1) > 1 or args.data_parallel_size > 1:
        raise EngineError(
            "--api-server-count and --data-parallel-size above 1 cannot be used with the guard, for one process must see "
            "every response: run several endpoints behind a load balancer."
        )
    check_modules([module.name for module in args.lora_modules or ()], settings)
    theirs = [*(args.api_key or ()), *filter(None, [os.environ.get("VLLM_API_KEY")])]
    if set(theirs) & set(settings.guard.keys):
        raise EngineError("A client's API key opens the administration too: give --api-key and --guard-admin-key two keys.")
    needed = ROOM + settings.release.pins + TRIALS + 1 + len(args.lora_modules or ())
    if args.enable_lora and "--max-loras" not in given:
        args.max_loras, args.max_cpu_loras = needed, max(needed + 1, args.max_cpu_loras or 0)
    if args.enable_lora and args.max_loras < needed:
        raise EngineError(
            f"--max-loras {args.max_loras} is too few for swaps under load and {settings.release.pins} pinned versions "
            f"(release.pins): give {needed} or more, or leave it out."
        )
    if args.runner == "pooling":
        raise EngineError("--runner pooling cannot be used with the guard, for nothing is generated: use vllm serve.")
    args.worker_extension_cls = "serving.engine.worker.WorkerExtension"
    validate_parsed_serve_args(args)
    return args


def check_modules(names: Sequence[str], settings: Settings) -> None:
    """Raise EngineError for settings that name LoRA modules wrongly: one that is not there is exempt from nothing, and
    nothing judges what one answers in the place of a response that was touched."""
    guard = settings.guard
    if unknown := set(guard.exempt_modules) - set(names):
        raise EngineError(
            f"guard.exempt_modules names {', '.join(sorted(unknown))}, which --lora-modules does not: mend one."
        )
    if guard.route_to in names and guard.route_to not in guard.exempt_modules:
        raise EngineError(
            f"guard.route_to is the LoRA module {guard.route_to}, which is not calibrated: name it in guard.exempt_modules "
            "too, or route to base or a version."
        )


def named(flags: Sequence[str]) -> set[str]:
    """The flags an operator gives, on the command line or in vLLM's own --config file, as vLLM spells them."""
    found = {flag.split("=", 1)[0].replace("_", "-") for flag in flags if flag.startswith("--")}
    for at, flag in enumerate(flags):
        name, _, value = flag.partition("=")
        if name == "--config" and (file := Path(value or "".join(flags[at + 1 : at + 2]))).is_file():
            import yaml

            try:
                keys = yaml.safe_load(file.read_text()) or {}
                found |= {"--" + str(key).replace("_", "-") for key in keys}
            except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
                raise EngineError(f"{file} cannot be read as YAML ({str(error).splitlines()[0]}): correct it.") from None
    return found


def defaults(given: set[str], settings: Settings, *, bundled: bool) -> list[str]:
    """Our own choices for flags that the operator did not give.

    LoRA slots are counted in `parse`, once the operator's modules are known: as many as we use at once, one that stays empty
    (see ROOM), and one for each module.
    """
    chosen: dict[str, str | None] = {"--host": "127.0.0.1", "--shutdown-timeout": "20", "--no-async-scheduling": None}
    if not given & {"--no-enable-lora", "--enable-lora"}:
        chosen |= {"--enable-lora": None, "--max-lora-rank": str(lora_rank(settings.update.lora_rank))}
    if settings.update.rollouts == "engine" or stages(settings.release):
        chosen["--scheduling-policy"] = "priority"  # our own requests are to wait for everybody else's
    if bundled:
        chosen |= {"--served-model-name": "sirl-tiny", "--enforce-eager": None, "--max-num-seqs": "64"}
        chosen |= {"--max-model-len": "2048", "--enable-auto-tool-choice": None, "--tool-call-parser": "hermes"}
    return [word for flag, value in chosen.items() if flag not in given for word in (flag, value) if word is not None]


def lora_rank(rank: int) -> int:
    """The smallest rank vLLM can be given that fits: it takes these only."""
    return next((r for r in (8, 16, 32, 64, 128, 256, 320, 512) if r >= rank), 512)
