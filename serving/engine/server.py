"""vLLM's own server with the guarded engine inside: its parser, its routes, its lifecycle, in its order."""

from __future__ import annotations

import argparse
import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI

from online.settings.settings import Settings
from online.state.directory import StateDir
from online.training.rollouts import announce
from serving.engine.arguments import parser
from serving.engine.served import Served
from serving.engine.version import EngineError
from serving.request.stored_responses import StoredResponses

if TYPE_CHECKING:
    from serving.engine.adapters import Adapters
    from serving.engine.guarded import Guarded
    from serving.engine.output_tap import Watcher


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


class Parts(Protocol):
    """What is asked of the parts around a running engine (serving/lifecycle/service.py)."""

    @property
    def recorder(self) -> Watcher: ...

    @property
    def adapters(self) -> Adapters: ...

    def assigned(self, client: str) -> str | None: ...
    async def reconcile(self) -> None: ...
    async def calibrate(self) -> None: ...
    def offer(self) -> None: ...
    async def run(self) -> None: ...
    def stopped(self, task: asyncio.Task) -> None: ...
    def close(self) -> None: ...


class Surroundings(Protocol):
    """What is put around an engine once it is there: its parts, and our routes in vLLM's application (serving/app.py)."""

    def layers(self) -> tuple[int, ...]: ...

    def build(self, engine: Guarded, served: Served) -> Parts: ...

    def install(
        self, app: FastAPI, parts: Any, facts: Mapping[str, Any], draining: Callable[[], bool], *, keys: Sequence[str]
    ) -> None: ...


async def serve(args: argparse.Namespace, settings: Settings, prepare: Callable[[], Surroundings], *, share: int) -> None:
    """Start the engine and vLLM's server around it; returns when it was told to stop and has drained. `prepare` reads what
    an operator wrote, so that what is wrong is said before a model is loaded. One of `share` sequences may be a rollout.
    Raises EngineError where it cannot start, and when the engine died."""
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
    state = StateDir(settings.state_dir)
    with sock, state.served(address):
        await run(args, settings, state, prepare(), address, sock, share)


async def run(
    args: argparse.Namespace,
    settings: Settings,
    state: StateDir,
    around: Surroundings,
    address: str,
    sock: socket.socket,
    share: int,
) -> None:
    """The engine, what is around it and vLLM's server, with a socket and a state directory that are theirs alone."""
    from vllm import envs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import serve_http
    from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
    from vllm.renderers.chat_utils import load_chat_template
    from vllm.usage.usage_lib import UsageContext

    from serving.engine import scheduler
    from serving.engine.conditions import conditions_of
    from serving.engine.guarded import Guarded
    from serving.engine.keys import take_keys
    from serving.engine.lora_modules import Modules
    from serving.engine.residual_stream import LAYERS
    from serving.engine.step_budget import EngineArguments

    args.additional_config = {**(args.additional_config or {}), LAYERS: list(around.layers())}
    config = EngineArguments.from_cli_args(args).create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    scheduler.choose(config.scheduler_config)
    engine = Guarded.from_vllm_config(
        config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=args.enable_log_requests,
        disable_log_stats=args.disable_log_stats,
    )
    parts = keeper = None
    try:
        await engine.reset_mm_cache()
        tasks = await engine.get_supported_tasks()
        app = build_app(args, tasks, engine.model_config)
        await init_app_state(engine, app.state, args, tasks)
        models = app.state.openai_serving_models
        models.lora_requests = Modules(models.lora_requests, settings.guard.exempt_modules)
        template, arguments = load_chat_template(args.chat_template), args.default_chat_template_kwargs
        served = Served(
            names=tuple(path.name for path in models.base_model_paths),
            tokenizer=engine.get_tokenizer(),
            conditions=conditions_of(engine, template, arguments),
            reasoning_parser=config.structured_outputs_config.reasoning_parser,
            modules=tuple(models.lora_requests),
            offer=further_names(models.base_model_paths),
            rollout_share=share,
        )
        parts = around.build(engine, served)
        facts = await engine.guard(
            parts.recorder,
            parts.adapters,
            settings.guard,
            template=template,
            arguments=arguments,
            modules=models.lora_requests,
            assigned=parts.assigned,
            ranks_clients=args.ranks_clients,
        )
        await parts.reconcile()
        await parts.calibrate()
        parts.offer()
        around.install(app, parts, facts, lambda: engine.draining, keys=take_keys(app, args))
        if (responses := app.state.openai_serving_responses) is not None:
            responses.response_store = StoredResponses(responses.response_store)
        if reached := reachable(args, address):
            announce(state, reached)
        keeper = asyncio.create_task(parts.run())
        keeper.add_done_callback(parts.stopped)
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
        if parts is not None:
            parts.close()
        engine.shutdown(timeout=config.shutdown_timeout)
        sock.close()
    await stopped
    if died:  # vLLM's own server ends well then, and who restarts only what failed would not start it again
        raise EngineError("The engine died: its last words are above; start the server again.")
