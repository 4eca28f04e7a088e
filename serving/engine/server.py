"""vLLM's own server with the guarded engine inside: its parser, its routes, its lifecycle, in its order."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI

from online.operations.installation import Installation
from online.registry.release_stages import stages
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.training.rollouts import announce
from serving.engine.lora_budget import ROOM, TRIALS
from serving.engine.version import EngineError, require_supported
from serving.lifecycle.served import Served
from serving.lifecycle.service import Service
from serving.processes.learner_process import LearnerProcess
from serving.request.policies import Policies
from serving.request.stored_responses import StoredResponses

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


def parser():
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
        chosen |= {"--served-model-name": "sirl-tiny", "--dtype": "float32", "--enforce-eager": None, "--max-num-seqs": "64"}
        chosen |= {"--max-model-len": "2048", "--enable-auto-tool-choice": None, "--tool-call-parser": "hermes"}
    return [word for flag, value in chosen.items() if flag not in given for word in (flag, value) if word is not None]


def application(flags: Sequence[str] = ()) -> FastAPI:
    """vLLM's own application for a generating model, without an engine: its routes, and what their bodies may hold."""
    from vllm.entrypoints.launchers.app import build_app

    return build_app(parser().parse_args(["model", *flags]), ("generate",), None)


def reachable(args: argparse.Namespace, address: str) -> str | None:
    """The URL by which a learner on this machine reaches us; None behind TLS, whose certificate is for another name, or
    behind a Unix socket."""
    if args.ssl_keyfile or args.uds or not address.startswith("http"):
        return None
    return f"http://127.0.0.1:{args.port}" if args.host in (None, "", "0.0.0.0", "::") else address


def further_names(paths: list) -> Callable[[Sequence[str]], None]:
    """What has vLLM know the model under the names of its versions too: /v1/models lists what is in this very list."""
    from vllm.entrypoints.openai.models.protocol import BaseModelPath

    own = list(paths)

    def offer(names: Sequence[str]) -> None:
        paths[len(own) :] = [BaseModelPath(name=name, model_path=own[0].model_path) for name in names]

    return offer


def lora_rank(rank: int) -> int:
    """The smallest rank vLLM can be given that fits: it takes these only."""
    return next((r for r in (8, 16, 32, 64, 128, 256, 320, 512) if r >= rank), 512)


async def serve(
    args: argparse.Namespace, settings: Settings, learner_flags: Sequence[str], *, learn: bool, share: int
) -> None:
    """Start the engine and vLLM's server around it; returns when it was told to stop and has drained. One of `share`
    sequences may be a rollout. Raises EngineError where it cannot start, and when the engine died."""
    from vllm import envs
    from vllm.entrypoints.launchers.launcher import setup_server

    if envs.VLLM_ALLOW_RUNTIME_LORA_UPDATING:
        raise EngineError(
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING lets a request load an adapter by path, past registry and gate: unset it."
        )
    if envs.VLLM_SERVER_DEV_MODE:
        raise EngineError("VLLM_SERVER_DEV_MODE lets any client call into the workers, the probe among them: unset it.")
    try:
        address, sock = setup_server(args, reuse_port=False)
    except OSError as error:
        raise EngineError(
            f"{args.host}:{args.port} cannot be bound ({error.strerror}): stop what uses it or give another --port."
        ) from None
    learner = LearnerProcess([args.model, *learner_flags], settings.state_dir / "learner.log", supervise=learn)
    with sock, StateDir(settings.state_dir).served(address):
        # What an operator wrote wrongly is said before a model is loaded.
        installation, policies = Installation.of(settings, Path(args.model)), Policies(settings.guard)
        await run(args, installation, policies, learner, address, sock, share)


async def run(
    args: argparse.Namespace,
    installation: Installation,
    policies: Policies,
    learner: LearnerProcess,
    address: str,
    sock: socket.socket,
    share: int,
) -> None:
    """The engine, the service around it and vLLM's server, with a socket and a state directory that are theirs alone."""
    from vllm import envs
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import serve_http
    from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
    from vllm.renderers.chat_utils import load_chat_template
    from vllm.usage.usage_lib import UsageContext

    from serving.app import install
    from serving.engine.conditions import conditions_of
    from serving.engine.guarded import Guarded
    from serving.engine.keys import take_keys
    from serving.engine.lora_modules import Modules

    settings, state = installation.settings, installation.state
    config = AsyncEngineArgs.from_cli_args(args).create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    engine = Guarded.from_vllm_config(
        config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=args.enable_log_requests,
        disable_log_stats=args.disable_log_stats,
    )
    service = keeper = None
    try:
        await engine.reset_mm_cache()
        tasks = await engine.get_supported_tasks()
        app = build_app(args, tasks, engine.model_config)
        await init_app_state(engine, app.state, args, tasks)
        models = app.state.openai_serving_models
        models.lora_requests = Modules(models.lora_requests, settings.guard.exempt_modules)
        template = load_chat_template(args.chat_template)
        served = Served(
            names=tuple(path.name for path in models.base_model_paths),
            tokenizer=engine.get_tokenizer(),
            conditions=conditions_of(engine, template),
            reasoning_parser=config.structured_outputs_config.reasoning_parser,
            modules=tuple(models.lora_requests),
            offer=further_names(models.base_model_paths),
            rollout_share=share,
        )
        service = Service(installation, engine, served, policies, learner)
        facts = await engine.guard(
            service.recorder,
            service.adapters,
            settings.guard,
            template=template,
            modules=models.lora_requests,
            assigned=service.assigned,
            ranks_clients=args.ranks_clients,
        )
        await service.reconcile()
        await service.calibrate()
        service.offer()
        install(app, service, facts, lambda: engine.draining, keys=take_keys(app, args))
        if (responses := app.state.openai_serving_responses) is not None:
            responses.response_store = StoredResponses(responses.response_store)
        if reached := reachable(args, address):
            announce(state, reached)
        keeper = asyncio.create_task(service.run())
        keeper.add_done_callback(service.stopped)
        print(f"sirl-guard: serving {args.model} at {address} (state in {settings.state_dir})", flush=True)
        stopped = await serve_http(
            app,
            sock=sock,
            enable_ssl_refresh=args.enable_ssl_refresh,
            host=args.host,
            port=args.port,
            log_level=args.uvicorn_log_level,
            log_config=get_uvicorn_log_config(args) or None,
            access_log=not args.disable_uvicorn_access_log,
            timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
            ssl_keyfile=args.ssl_keyfile,
            ssl_certfile=args.ssl_certfile,
            ssl_ca_certs=args.ssl_ca_certs,
            ssl_cert_reqs=args.ssl_cert_reqs,
            ssl_ciphers=args.ssl_ciphers,
            h11_max_incomplete_event_size=args.h11_max_incomplete_event_size,
            h11_max_header_count=args.h11_max_header_count,
        )
        died = engine.errored and not engine.draining
    finally:
        with suppress(OSError):  # a learner that finds nobody there draws by itself
            announce(state, None)
        if keeper is not None:
            keeper.cancel()
        if service is not None:
            service.close()
        engine.shutdown(timeout=config.shutdown_timeout)
        sock.close()
    await stopped
    if died:  # vLLM's own server ends well then, and who restarts only what failed would not start it again
        raise EngineError("The engine died: its last words are above; start the server again.")
