"""The middleware at the HTTP edge: options in, report out, nothing else touched.

A pure ASGI middleware next to vLLM's routes, inside all other middleware: it sees a request as the routes will, however
others changed it, and their answers before others change them. It reads the `guard` object of a JSON body and takes it out,
marks our own traffic, and adds the report to the answer. Bodies are spliced, not re-serialised: every other byte is vLLM's.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable

from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from guard.policy import Action, Mode, PolicyError
from online.events.client import address_block, client_hash
from serving.metrics import Metrics
from serving.request.api_keys import CHECKED, GUARD, given, headers_of, route_path
from serving.request.body import claims, drink, limit, ours, pour, too_large
from serving.request.errors import RefusedRequest, refuse
from serving.request.exchange import Exchange, current
from serving.request.guard_options import GuardOptions
from serving.request.offered_models import OfferedModels, without
from serving.request.policies import Policies
from serving.request.reporter import Reporter, replay, rewrite

WITHOUT_BEAMS = ("/v1/responses", "/v1/messages")
"""Routes that take no notice of `use_beam_search`; of one we do not know it may be."""
STORED = "/v1/responses/"
"""Where vLLM gives stored responses out again."""
MODELS = "/v1/models"
INVOCATIONS = "/invocations"
OFF_LOOP = 256 << 10
"""Bytes from which on a body is read in a thread."""
FLAG = TypeAdapter(bool)
INTERNAL_HEADER = b"x-sirl-internal"
ADAPTER_HEADER = b"x-sirl-use-adapter"
MODEL_HEADER = b"x-amzn-sagemaker-adapter-identifier"
"""Where `/invocations` takes the model's name from, rather than from the body."""


class GuardMiddleware:
    """Wraps an ASGI application. `draining` says whether new requests must be turned away, `keyed` whether clients are told
    apart by their keys, which somebody must check for that, or by their addresses alone."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        report: bool,
        internal_key: str,
        salt: str,
        policies: Policies,
        no_store_keys: tuple[str, ...] = (),
        keyed: bool = True,
        max_body_mib: int = 100,
        draining: Callable[[], bool] = lambda: False,
        offers: Callable[[], OfferedModels] = OfferedModels,
    ) -> None:
        self.app, self.metrics, self.report, self.policies = app, metrics, report, policies
        self.internal_key, self.salt, self.no_store = internal_key.encode(), salt, frozenset(no_store_keys)
        self.keyed = keyed
        self.most = max_body_mib << 20
        self.draining, self.offers = draining, offers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            return await self.handle(scope, receive, send)
        except RefusedRequest as refused:
            return await refuse(refused, scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused, before anything was sent."""
        path, headers = route_path(scope), headers_of(scope)
        asks = scope["method"] == "POST" and not path.startswith(GUARD)
        if self.draining() and (asks or path == "/health"):  # a load balancer is to look elsewhere too
            raise RefusedRequest(503, "The server is shutting down: send the request elsewhere.", "unavailable")
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):  # whose bodies nobody reads
            return await self.app(scope, receive, self.shown(path, headers, scope, send))
        most = limit(path, self.most, internal=self.internal(headers))
        taken = await drink(receive, most) if claims(headers) <= most else None
        if taken is None:
            raise too_large(most, self.most)
        body, messages = taken
        if not asks:
            return await self.app(scope, pour(body, messages, receive), send)
        request = self.open(path, headers, scope)
        if len(body) > OFF_LOOP:
            body, scope = await asyncio.to_thread(self.read, request, headers, body, scope)
        else:
            body, scope = self.read(request, headers, body, scope)
        token = current.set(request)
        try:
            reporter = Reporter(request, send, self.metrics, report=self.report)
            return await self.app(scope, pour(body, messages, receive), reporter)
        finally:
            current.reset(token)

    def shown(self, path: str, headers: dict[bytes, bytes], scope: Scope, send: Send) -> Send:
        """The `send` under which what was stored reads as it was told first, and models that are closed are not listed."""
        if path.startswith(STORED):
            return replay(send)
        if path == MODELS:
            policy = self.policies.of(self.key(headers, scope))
            if closed := self.offers().closed(policy, internal=self.internal(headers)):
                return rewrite(send, lambda body: without(body, closed))
        return send

    def internal(self, headers: dict[bytes, bytes]) -> bool:
        """Whether a request is one of our own processes'."""
        return hmac.compare_digest(headers.get(INTERNAL_HEADER, b""), self.internal_key)

    def key(self, headers: dict[bytes, bytes], scope: Scope) -> bytes:
        """The key that was checked; where none is, the first that came, which counts to policies alone: they know theirs."""
        return scope.get(CHECKED) or next(iter(given(headers)), b"")

    def open(self, path: str, headers: dict[bytes, bytes], scope: Scope) -> Exchange:
        """A Request from the connection and the headers: who asks, and whether it is one of us."""
        internal, key = self.internal(headers), self.key(headers, scope)
        peer = (scope.get("client") or ("",))[0]
        pinned = headers.get(ADAPTER_HEADER, b"").decode("latin-1") if internal else ""
        return Exchange(
            path=path,
            internal=internal,
            store=hashlib.sha256(key).hexdigest() not in self.no_store,
            policy=self.policies.of(key),
            client=client_hash((self.keyed and key.decode("latin-1")) or peer, self.salt),
            block=client_hash(address_block(peer), self.salt) if peer else "",
            adapter=pinned or None,
        )

    def read(self, request: Exchange, headers: dict[bytes, bytes], body: bytes, scope: Scope) -> tuple[bytes, Scope]:
        """Take our options out of the body; anything that is not a JSON object goes to vLLM as it came. Raises Refused."""
        data = ours(body)
        model = None if data is None else data.get("model")
        if request.path == INVOCATIONS:
            model = headers.get(MODEL_HEADER, b"").decode("latin-1") or model
        if request.adapter is None:
            request.adapter = self.offers().asked(model, request.policy, internal=request.internal)
        if data is None:
            return body, scope
        if flag(data.get("store")) is False:
            request.store = False
        request.beam_search = request.path not in WITHOUT_BEAMS and flag(data.get("use_beam_search")) is True
        if "guard" not in data:
            return body, scope
        try:
            self.options(request, data.pop("guard"))
        except (ValidationError, PolicyError) as error:
            raise RefusedRequest(400, sentence(error)) from None
        body = json.dumps(data).encode()
        kept = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
        return body, {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}

    def options(self, request: Exchange, asked: object) -> None:
        """Take up a `guard` object. Raises ValidationError for a malformed one, PolicyError for one that asks too much."""
        options = request.options = GuardOptions.model_validate(asked)
        mode, action = (options.mode and Mode(options.mode)), (options.action and Action(options.action))
        if action is Action.ROUTE and self.policies.route_to is None:
            raise PolicyError("there is no adapter to route to on this endpoint: choose another action.")
        request.policy = request.policy.asked(mode, action, options.threshold)


def flag(value: object) -> bool | None:
    """As vLLM reads a member of a body ("false" and 0 are false); None where there is none, or none that it takes."""
    try:
        return FLAG.validate_python(value)
    except ValidationError:
        return None


def sentence(error: ValidationError | PolicyError) -> str:
    """What is wrong with a `guard` object, in one sentence."""
    if isinstance(error, PolicyError):
        return f"guard: {error}"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(["guard", *(str(part)[:100] for part in first["loc"])])
    return f"{where}: {first['msg']}; the known keys are {', '.join(GuardOptions.model_fields)}."
