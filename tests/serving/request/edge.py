"""One request through the middleware, without an engine behind it."""

from __future__ import annotations

import asyncio
import hashlib

from prometheus_client import CollectorRegistry

from guard.policy import Action, Policy
from guard.record import ResponseRecord
from guard.verdict import Verdict
from online.settings.groups import GuardSettings
from serving.metrics import Metrics
from serving.request.exchange import Exchange, ServedAnswer, current
from serving.request.middleware import GuardMiddleware
from serving.request.offered_models import OfferedModels
from serving.request.policies import Policies


def answer(index: int = 0) -> ServedAnswer:
    record = ResponseRecord()
    record.extend([5, 6], [0.5, 1.5], [float("nan")] * 2)
    return ServedAnswer(Exchange(path="/v1/chat/completions"), index, "base", record, verdict=Verdict.PLAIN)


def call(
    body: bytes,
    *,
    headers=(),
    draining=False,
    inner=None,
    max_body_mib=100,
    keyed=True,
    path="/v1/chat/completions",
    root="",
    method="POST",
    metrics=None,
    offers=OfferedModels,
    lengthless=False,
) -> tuple[int, bytes, list]:
    """One request through the middleware; returns status, body and what the application inside saw."""
    seen: list = []
    sent: list = []

    async def app(scope, receive, send):
        message = await receive()
        seen.append((message["body"], dict(scope["headers"]), current.get()))
        if inner is not None:
            await inner(send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"a":1}'})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    middleware = GuardMiddleware(
        app,
        metrics=metrics or Metrics(CollectorRegistry()),
        report=True,
        internal_key="k" * 64,
        salt="s",
        policies=Policies(GuardSettings()),
        no_store_keys=(hashlib.sha256(b"private").hexdigest(),),
        keyed=keyed,
        max_body_mib=max_body_mib,
        draining=lambda: draining,
        offers=offers,
    )
    scope = {
        "type": "http",
        "method": method,
        "path": root + path,
        "root_path": root,
        "headers": [*([] if lengthless else [(b"content-length", str(len(body)).encode())]), *headers],
        "client": ("10.0.0.9", 1),
    }
    asyncio.run(middleware(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), seen


def answered(*sent: tuple[bytes, bytes], status: int = 200, policy: Policy | None = None, acts=(Action.NONE,), **kwargs):
    """What a client gets of these bodies, each of a content type; `acts`: what was done, call by call of the model."""

    async def inner(send):
        request = current.get()
        request.policy = policy or request.policy
        for index, act in enumerate(acts):
            one = answer(index)
            one.request, one.action = request, act
            request.answers.append(one)
        headers = [(b"content-type", sent[0][0]), *([(b"content-encoding", b"gzip")] if kwargs.get("packed") else [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for at, (_, body) in enumerate(sent):
            await send({"type": "http.response.body", "body": body, "more_body": at < len(sent) - 1})

    metrics = Metrics(CollectorRegistry())
    given = call(b"{}", inner=inner, metrics=metrics, path=kwargs.get("path", "/v1/chat/completions"))
    return *given[:2], metrics
