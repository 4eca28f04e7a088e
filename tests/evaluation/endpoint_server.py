"""A small server that speaks OpenAI's chat and completions formats, for judges that ask an endpoint over the wire."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | int | dict[str, Any] | tuple[int, dict[str, Any]]
"""A text, an HTTP status to fail with, {"text", "first": {token: log p}} for one with logprobs, or a status and a body."""


@dataclass
class Served:
    """Where it answers, and each request it got: path, headers and body."""

    url: str
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.requests]


def asked(body: dict[str, Any]) -> str:
    """All that a request says."""
    return body.get("prompt") or "\n".join(message["content"] for message in body["messages"])


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Answer]) -> Iterator[Served]:
    """Serves on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            said = answer(body)
            if isinstance(said, tuple):
                status, content = said
            else:
                failed = isinstance(said, int)
                status, content = (said, {"error": {"message": "no"}}) if failed else (200, reply(self.path, said))
            written = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(written)))
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chat(message: dict[str, Any], finish: str, usage: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """A chat completion with this message, as it is."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    body = {"id": "x", "created": 0, "model": "m", "object": "chat.completion", "choices": [choice]}
    return 200, body | ({"usage": usage} if usage else {})


def reply(path: str, said: str | dict[str, Any]) -> dict[str, Any]:
    text, first = (said, None) if isinstance(said, str) else (said["text"], said["first"])
    head = {"id": "x", "created": 0, "model": "m"}
    if path.endswith("/chat/completions"):
        tops = [{"token": token, "logprob": logp, "bytes": None} for token, logp in (first or {}).items()]
        content = [{**tops[0], "top_logprobs": tops}] if tops else []
        choice = {"message": {"role": "assistant", "content": text}, "logprobs": {"content": content} if first else None}
        return {**head, "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", **choice}]}
    logprobs = {"top_logprobs": [first], "tokens": [text], "token_logprobs": [0.0], "text_offset": [0]} if first else None
    choice = {"index": 0, "finish_reason": "stop", "text": text, "logprobs": logprobs}
    return {**head, "object": "text_completion", "choices": [choice]}
