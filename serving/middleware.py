"""The HTTP edge: options in, report out, nothing else touched.

A pure ASGI middleware around vLLM's application. It reads the `guard` object of a JSON body and takes it out, marks our own
traffic, and adds the report to the answer. Bodies are spliced, not re-serialised: every other byte is vLLM's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from time import monotonic

from pydantic import TypeAdapter, ValidationError

from guard.policy import Action, Mode, PolicyError
from online.event import address_block, client_hash
from serving.metrics import Metrics
from serving.policies import Policies
from serving.shapes import SHAPES, Shape, replayed
from serving.traffic import Answer, GuardOptions, Request, current

BEAMS = ("/v1/chat/completions", "/v1/completions")
"""Routes that know beam search."""
STORED = "/v1/responses/"
"""Where vLLM gives stored responses out again."""
WORDS = (b'"guard"', b'"store"', b'"use_beam_search"', b"@v", b"@base", b"\\u")
"""One of them is in a body that we have to read: a member of ours, a model with a version, or a name that may be escaped."""
FLAG = TypeAdapter(bool)
INTERNAL_HEADER = b"x-sirl-internal"
ADAPTER_HEADER = b"x-sirl-use-adapter"


def refusal(status: int, message: str, kind: str) -> tuple[dict, dict]:
    """The two ASGI messages of an error in OpenAI's shape."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    return {"type": "http.response.start", "status": status, "headers": headers}, {
        "type": "http.response.body",
        "body": body,
    }


def spliced(body: bytes, answers: list[Answer]) -> bytes:
    """A JSON object with the guard's report as its last member."""
    end = body.rstrip()
    if not end.endswith(b"}"):
        return body
    report = json.dumps([answer.entry() for answer in answers], separators=(",", ":")).encode()
    return end[:-1] + b',"guard":' + report + b"}"


class GuardMiddleware:
    """Wraps an ASGI application. `draining` says whether new requests must be turned away, `keyed` whether clients are told
    apart by their keys, which somebody must check for that, or by their addresses alone."""

    def __init__(
        self,
        app,
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
        version_of: Callable[[object], str | None] = lambda model: None,
    ) -> None:
        self.app, self.metrics, self.report, self.policies = app, metrics, report, policies
        self.internal_key, self.salt, self.no_store = internal_key.encode(), salt, frozenset(no_store_keys)
        self.keyed = keyed
        self.most = max_body_mib << 20
        self.draining, self.version_of = draining, version_of

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/guard/"):
            return await self.app(scope, receive, send)
        if scope["method"] == "GET" and scope["path"].startswith(STORED):
            return await self.app(scope, receive, replay(send))
        asks = scope["method"] == "POST"
        if self.draining() and (asks or scope["path"] == "/health"):  # a load balancer is to look elsewhere too
            for message in refusal(503, "The server is shutting down: send the request elsewhere.", "unavailable"):
                await send(message)
            return None
        if not asks:
            return await self.app(scope, receive, send)
        request = self.open(scope)
        try:
            body, messages = await drink(receive, self.most)
        except TooLarge:
            text = f"The body is larger than the {self.most >> 20} MiB that guard.max_body_mib allows: send less."
            for message in refusal(413, text, "invalid_request_error"):
                await send(message)
            return None
        try:
            body, scope = self.read(request, body, scope)
        except (ValidationError, TypeError, PolicyError) as error:
            for message in refusal(400, sentence(error), "invalid_request_error"):
                await send(message)
            return None
        token = current.set(request)
        try:
            await self.app(scope, pour(body, messages, receive), self.answer(request, send))
        finally:
            current.reset(token)
        return None

    def open(self, scope) -> Request:
        """A Request from the connection and the headers: who asks, and whether it is one of us."""
        headers = dict(reversed(scope["headers"]))  # of a header that comes twice vLLM reads the first
        internal = hmac.compare_digest(headers.get(INTERNAL_HEADER, b""), self.internal_key)
        key = bearer(headers.get(b"authorization", b"")) or headers.get(b"x-api-key", b"")
        peer = (scope.get("client") or ("",))[0]
        pinned = headers.get(ADAPTER_HEADER, b"").decode("latin-1") if internal else ""
        return Request(
            path=scope["path"],
            internal=internal,
            store=hashlib.sha256(key).hexdigest() not in self.no_store,
            policy=self.policies.of(key),
            client=client_hash((self.keyed and key.decode("latin-1")) or peer, self.salt),
            block=client_hash(address_block(peer), self.salt) if peer else "",
            adapter=pinned or None,
        )

    def read(self, request: Request, body: bytes, scope) -> tuple[bytes, dict]:
        """Take our options out of the body; anything that is not a JSON object goes to vLLM as it came.

        Raises ValidationError or TypeError for a malformed `guard` object, PolicyError for one that asks too much.
        """
        if not any(word in body for word in WORDS):
            return body, scope
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return body, scope
        if not isinstance(data, dict):
            return body, scope
        if data.get("store") is False:
            request.store = False
        if request.adapter is None:
            request.adapter = self.version_of(data.get("model"))
        request.beam_search = request.path in BEAMS and truthy(data.get("use_beam_search"))
        if "guard" not in data:
            return body, scope
        options = request.options = GuardOptions.model_validate(data.pop("guard"))
        mode, action = (options.mode and Mode(options.mode)), (options.action and Action(options.action))
        if action is Action.ROUTE and self.policies.route_to is None:
            raise PolicyError("there is no adapter to route to on this endpoint: choose another action.")
        request.policy = request.policy.asked(mode, action, options.threshold)
        body = json.dumps(data).encode()
        headers = [(k, v) for k, v in scope["headers"] if k != b"content-length"]
        return body, {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}

    def answer(self, request: Request, send):
        """The `send` to hand inwards: adds what the client is due and measures the delivered TTFT."""
        wanted = self.report and request.options.report and request.path in SHAPES
        reporter = Reporter(request, send, wanted)
        timed = False

        async def measured(message) -> None:
            nonlocal timed
            if message["type"] == "http.response.body" and message.get("body") and not timed:
                timed = True
                if reporter.stream and not request.internal:
                    request.ttft = monotonic() - request.arrived
                    self.metrics.delivered_ttft.observe(request.ttft)
            await reporter(message)

        return measured


class Reporter:
    """Passes an answer on. A choice that was halted is made to read so, in the shape of its route; and where a report is
    wanted a JSON body gets it at its end, a stream on the frames that finish a choice. All else goes out as it came."""

    def __init__(self, request: Request, send, wanted: bool) -> None:
        self.request, self.send, self.wanted = request, send, wanted
        self.shape = SHAPES.get(request.path)
        self.stream = False
        self.held: dict | None = None
        self.body = b""

    async def __call__(self, message) -> None:
        if message["type"] == "http.response.start":
            kind = dict(message["headers"]).get(b"content-type", b"")
            self.stream = kind.startswith(b"text/event-stream")
            acts = self.wanted or self.request.policy.enforces
            if acts and self.shape is not None and message["status"] == 200 and kind.startswith(b"application/json"):
                self.held = message
                return
        elif message["type"] == "http.response.body":
            if self.held is not None and self.shape is not None:
                self.body += message.get("body", b"")
                if message.get("more_body"):
                    return
                await self.send_whole(self.held, self.shape)
                return
            body = message.get("body", b"")
            if self.stream and self.shape and any(word in body for word in self.shape.last):
                frames = (self.frame(frame, self.shape) for frame in body.split(b"\n\n"))
                message = {**message, "body": b"\n\n".join(frames)}
        await self.send(message)

    async def send_whole(self, start: dict, shape: Shape) -> None:
        """The body that is complete, with report and headers."""
        answers = self.request.finished()
        body, headers = self.body, start["headers"]
        if answers and not self.request.beam_search:
            if halted := halted_among(answers):
                data = json.loads(body)
                shape.body(data, halted)
                body = dumped(data)
            if self.wanted:
                body = spliced(body, answers)
                headers = [*headers, *told(self.request, answers)]
            headers = [(k, v) for k, v in headers if k != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
        await self.send({**start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def frame(self, frame: bytes, shape: Shape) -> bytes:
        """One SSE frame; where it finishes choices, with their entries."""
        name, mark, text = frame.partition(b"data: ")  # the first: a text may speak of data, an event's name does not
        if not mark or not text.startswith(b"{"):
            return frame
        data = json.loads(text)
        answers = [answer for answer in self.request.finished() if answer.index in shape.ended(data)]
        if not answers:
            return frame
        if halted := halted_among(answers):
            shape.frame(data, halted)
            text = dumped(data)
            if name:  # an event's name repeats the type of its data
                name = b"event: " + data["type"].encode() + b"\n"
        return name + mark + (spliced(text, answers) if self.wanted else text)


def replay(send):
    """The `send` under which a stored response that was halted ends as its stream did first."""

    stream = False

    async def rewritten(message) -> None:
        nonlocal stream
        if message["type"] == "http.response.start":
            stream = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/event-stream")
        if stream and b"response.completed" in message.get("body", b""):
            frames = [replayed_frame(frame) for frame in message["body"].split(b"\n\n")]
            message = {**message, "body": b"\n\n".join(frames)}
        await send(message)

    return rewritten


def replayed_frame(frame: bytes) -> bytes:
    name, mark, text = frame.partition(b"data: ")
    if not mark or not text.startswith(b"{") or not replayed(data := json.loads(text)):
        return frame
    return (b"event: " + data["type"].encode() + b"\n" if name else b"") + mark + dumped(data)


def halted_among(answers: list[Answer]) -> set[int]:
    return {answer.index for answer in answers if answer.action is Action.HALT}


def dumped(data: dict) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def told(request: Request, answers: list[Answer]) -> list[tuple[bytes, bytes]]:
    """The headers that go with a report."""
    if not request.sees_all:
        return [(b"x-sirl-action", ",".join(answer.action.value for answer in answers).encode())]
    return [
        (b"x-sirl-adapter", ",".join(dict.fromkeys(answer.adapter for answer in answers)).encode()),
        (b"x-sirl-verdict", ",".join(answer.verdict_name for answer in answers).encode()),
    ]


def truthy(value: object) -> bool:
    """Whether vLLM reads a member of a body as true ("false" and 0 are not); what it refuses is not."""
    try:
        return FLAG.validate_python(value)
    except ValidationError:
        return False


def bearer(authorization: bytes) -> bytes:
    """The key in an Authorization header, whose scheme may be in any case."""
    scheme, _, key = authorization.strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else authorization


class TooLarge(Exception):
    """A body is larger than it may be."""


async def drink(receive, most: int) -> tuple[bytes, list]:
    """The whole request body, and any message that came after or instead of it (a disconnect). TooLarge as soon as it is
    longer than `most` bytes: what it claims to be is not asked."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(chunks), [message]
        chunks.append(message.get("body", b""))
        if (size := size + len(chunks[-1])) > most:
            raise TooLarge
        if not message.get("more_body"):
            return b"".join(chunks), []


def pour(body: bytes, messages: list, receive):
    """A `receive` that gives the body once and then whatever the connection says."""
    queue = [{"type": "http.request", "body": body, "more_body": False}, *messages]

    async def again():
        return queue.pop(0) if queue else await receive()

    return again


def sentence(error: Exception) -> str:
    """What is wrong with a `guard` object, in one sentence."""
    if isinstance(error, PolicyError):
        return f"guard: {error}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(["guard", *map(str, first["loc"])])
        return f"{where}: {first['msg']}; the known keys are {', '.join(GuardOptions.model_fields)}."
    return f"guard: {error}."
