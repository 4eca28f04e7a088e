"""Client keys: vLLM's own check is taken out, and ours stands in its place on every route (request/api_keys.py)."""

from __future__ import annotations

from argparse import Namespace

from fastapi import FastAPI

from serving.engine.version import EngineError


def take_keys(app: FastAPI, args: Namespace) -> tuple[str, ...]:
    """The keys that vLLM would check; it does so no more once the application's stack is built again. Raises EngineError
    where they are not those it was given, for then it would check elsewhere."""
    from vllm import envs
    from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware

    checks: object = AuthenticationMiddleware
    taken = [one for one in app.user_middleware if one.cls is checks]
    for one in taken:
        app.user_middleware.remove(one)
    keys = tuple(key for one in taken for key in one.kwargs["tokens"])
    if set(keys) != set(filter(None, args.api_key or [envs.VLLM_API_KEY])):
        raise EngineError("vLLM does not check API keys where the guard looks for it: use the vLLM version it is made for.")
    return keys
