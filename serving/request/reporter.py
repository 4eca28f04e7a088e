"""The reporter: it writes a halt in its route's format into an answer, and adds the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from time import monotonic

from starlette.types import Message, Send

from guard.policy import Action
from serving.api_formats import API_FORMATS, ApiFormat, Body, replayed
from serving.metrics import Metrics
from serving.request.errors import RefusedRequest, refuse
from serving.request.exchange import Exchange, ServedAnswer

JSON, STREAM = b"application/json", b"text/event-stream"


def spliced(body: bytes, answers: list[ServedAnswer]) -> bytes:
    """A JSON object with the guard's report as its last member."""
    end = body.rstrip()
    if not end.endswith(b"}"):
        return body
    report = json.dumps([answer.entry() for answer in answers], separators=(",", ":")).encode()
    return end[:-1] + b',"guard":' + report + b"}"


class Reporter:
    """Passes an answer on. A choice that was halted is made to read so, in the shape of its route; and where a report is
    wanted a JSON body gets it at its end, a stream on the frames that finish a choice. All else goes out as it came, but for
    an answer that cannot be read: that is counted, and refused where the guard enforces."""

    def __init__(self, request: Exchange, send: Send, metrics: Metrics, *, report: bool) -> None:
        self.request, self.send, self.metrics = request, send, metrics
        self.shape = API_FORMATS.get(request.path)
        self.wanted = report and request.options.report and self.shape is not None
        self.stream = self.spoke = self.refused = False
        self.held: Message | None = None
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if self.refused:
            return
        body = message.get("body", b"")
        if self.shape is None or message["type"] not in ("http.response.start", "http.response.body"):
            await self.send(message)
        elif message["type"] == "http.response.start":
            await self.begin(message)
        elif self.held is not None:
            self.body += body
            if not message.get("more_body"):
                await self.send_whole(self.held, self.shape)
        else:
            if self.stream and not self.spoke and not self.request.internal:
                self.time(body, self.shape)
            if self.stream and any(word in body for word in self.shape.last):
                body = b"\n\n".join(self.frame(frame, self.shape) for frame in body.split(b"\n\n"))
            await self.send({**message, "body": body})

    async def begin(self, start: Message) -> None:
        """The answer's first message: see what it is, and hold back what has to wait for its body."""
        headers = dict(start["headers"])
        kind = headers.get(b"content-type", b"") if b"content-encoding" not in headers else b""
        acts = self.wanted or self.request.policy.enforces
        self.stream = kind.startswith(STREAM)
        if start["status"] == 200 and kind.startswith(JSON) and acts:
            self.held = start
        elif start["status"] == 200 and not kind.startswith((JSON, STREAM)):
            await self.unreadable(start)
        else:
            await self.send(start)

    async def unreadable(self, *messages: Message) -> None:
        """Count an answer that is in no shape we know; send it where the guard observes, an error where it enforces."""
        if not self.request.internal:
            self.metrics.unreported.labels("unreadable").inc()
        self.refused = not self.request.internal and self.request.policy.enforces
        if self.refused:
            refused = RefusedRequest(
                500, "The answer is in a form that cannot be guarded: ask for plain JSON.", "server_error"
            )
            await refuse(refused, {"type": "http"}, _nothing, self.send)
            return
        for message in messages:
            await self.send(message)

    def time(self, body: bytes, shape: ApiFormat) -> None:
        """Take the time where these frames are the first that carry anything of the model's."""
        if any(shape.speaks(data) for _, data in decoded(body)):
            self.spoke = True
            self.request.ttft = monotonic() - self.request.arrived
            self.metrics.delivered_ttft.observe(self.request.ttft)

    async def send_whole(self, start: Message, shape: ApiFormat) -> None:
        """The body that is complete, with report and headers."""
        answers = self.request.finished()
        body, headers = self.body, start["headers"]
        if answers and not self.request.beam_search:
            if halted := halted_among(answers):
                try:
                    data = json.loads(body)
                    shape.body(data, halted)
                except (ValueError, TypeError, AttributeError):  # no object, or another one than the route's
                    await self.unreadable(start, {"type": "http.response.body", "body": body})
                    return
                body = dumped(data)
            if self.wanted:
                body = spliced(body, answers)
                headers = [*headers, *report_of(self.request, answers)]
            headers = [(k, v) for k, v in headers if k != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
        await self.send({**start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def frame(self, frame: bytes, shape: ApiFormat) -> bytes:
        """One SSE frame; where it finishes choices, with their entries."""
        for name, data in decoded(frame):
            answers = [answer for answer in self.request.finished() if shape.ends(data, answer.index)]
            if not answers:
                continue
            if halted := halted_among(answers):
                shape.frame(data, halted)
            before, _, text = frame.partition(b"data: ")
            if halted:
                before, text = named(name, data), dumped(data)
            return before + b"data: " + (spliced(text, answers) if self.wanted else text)
        return frame


async def _nothing() -> Message:
    """There is no more of the request."""
    return {"type": "http.disconnect"}


def decoded(body: bytes) -> Iterator[tuple[bytes, Body]]:
    """What stands before the data of each SSE frame, and the data; comments and what is no JSON object are passed over."""
    for frame in body.split(b"\n\n"):
        name, mark, text = frame.partition(b"data: ")  # the first: a text may speak of data, an event's name does not
        if mark and text.startswith(b"{"):
            try:
                yield name, json.loads(text)
            except ValueError:
                continue


def named(name: bytes, data: Body) -> bytes:
    """What stands before the data: an event's name repeats the type of its data."""
    return b"event: " + data["type"].encode() + b"\n" if name else b""


def replay(send: Send) -> Send:
    """The `send` under which a stored response that was halted ends as its stream did first."""
    stream = False

    async def rewritten(message: Message) -> None:
        nonlocal stream
        if message["type"] == "http.response.start":
            stream = dict(message["headers"]).get(b"content-type", b"").startswith(STREAM)
        if stream and b"response.completed" in message.get("body", b""):
            frames = [replayed_frame(frame) for frame in message["body"].split(b"\n\n")]
            message = {**message, "body": b"\n\n".join(frames)}
        await send(message)

    return rewritten


def replayed_frame(frame: bytes) -> bytes:
    for name, data in decoded(frame):
        if replayed(data):
            return named(name, data) + b"data: " + dumped(data)
    return frame


def rewrite(send: Send, change: Callable[[bytes], bytes]) -> Send:
    """The `send` under which a whole body that succeeds is changed."""
    held: list[Message] = []
    body = bytearray()

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            held.append(message)
        elif not held:
            await send(message)
        else:
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                whole = change(bytes(body))
                headers = [(k, v) for k, v in held[0]["headers"] if k != b"content-length"]
                await send({**held[0], "headers": [*headers, (b"content-length", str(len(whole)).encode())]})
                await send({"type": "http.response.body", "body": whole})

    return changed


def halted_among(answers: list[ServedAnswer]) -> set[int]:
    return {answer.index for answer in answers if answer.action is Action.HALT}


def dumped(data: Body) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def report_of(request: Exchange, answers: list[ServedAnswer]) -> list[tuple[bytes, bytes]]:
    """The headers that go with a report."""
    if not request.sees_all:
        return [(b"x-sirl-action", ",".join(answer.action_told.value for answer in answers).encode())]
    return [
        (b"x-sirl-adapter", ",".join(dict.fromkeys(answer.adapter for answer in answers)).encode()),
        (b"x-sirl-verdict", ",".join(answer.verdict_name for answer in answers).encode()),
    ]
