"""Bad input and hard clients at the live endpoint: a clear answer or backpressure, steady memory, other clients unharmed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import Server

pytestmark = [pytest.mark.engine, pytest.mark.slow]
CHAT = "/v1/chat/completions"
HARD = {"model": "sirl-tiny", "prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "stream": True}
CONNECTIONS = 2000
GROWTH_MIB = 96
"""How much the API process may grow: a leak of one body or answer each would be many times that."""


@contextmanager
def steady(server: Server) -> Iterator[None]:
    """Within it others are harmed by nothing, and after it the process is not much larger and all it lent is back."""
    before = resident(server)
    yield
    assert server.chat("What is the capital of France?", temperature=0)["choices"][0]["message"]["content"]
    assert server.process.poll() is None
    server.wait(lambda: server.metric("vllm:num_requests_running") == 0)
    assert resident(server) - before < GROWTH_MIB, "the server grew"


def resident(server: Server) -> float:
    """MiB of memory of the API process."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def connection(server: Server, window: int | None = None) -> socket.socket:
    address = urlsplit(server.url)
    made = socket.socket()
    made.settimeout(30)
    if window is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    made.connect((address.hostname, address.port))
    return made


def request(path: str, body: bytes, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length or len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def sent(server: Server, raw: bytes) -> httpx.Response:
    return httpx.post(server.url + CHAT, content=raw, headers={"content-type": "application/json"}, timeout=120)


def chat(text: str) -> bytes:
    body = {"model": "sirl-tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 8}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "options",
    ['[]', '"x"', '1e999', '{"report": "yes"}', '{"threshold": NaN}', '{"threshold": 1e400}', '{"threshold": -1}',
     '{"mode": "off"}', '{"mode": null, "Mode": 1}', '{"\\u0000": 1}', '{"trace": ' + "[" * 900 + "]" * 900 + "}"],
)  # fmt: skip
def test_hostile_options_get_one_sentence(calibrated, options):
    raw = chat("Hello.")[:-1] + b', "guard": ' + options.encode() + b"}"
    answer = sent(calibrated, raw)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400 and message.startswith("guard") and message.endswith("."), answer.text
    assert len(message) < 400 and "Traceback" not in message


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe\x00",
        chat("Hello.").replace(b"Hello", b"Hel\xfflo"),
        chat("Hello.").replace(b"Hello", b"\\ud800"),
        chat("Hello.").replace(b"Hello", b"\\u0000"),
        chat("Hello.")[:-9],
        b"[" * 100_000,
        b'{"guard":' * 3000,
        b'{"guard": {}, "guard": []}',
    ],
)
def test_bytes_that_are_no_request_are_refused_and_harm_nobody(calibrated, raw):
    with steady(calibrated):
        answer = sent(calibrated, raw)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text


def test_a_prompt_of_a_megabyte_is_too_long_and_no_more(calibrated):
    with steady(calibrated):
        for guard in (b"", b', "guard": {"trace": true}'):
            raw = chat("word " * 210_000)[:-1] + guard + b"}"
            answer = sent(calibrated, raw)
            assert answer.status_code == 400 and "context length" in answer.text


def test_two_thousand_connections_leave_room_for_one_more(calibrated):
    """Half of them say nothing, half break off within a request; they are let go and so is what they sent."""
    with steady(calibrated), ExitStack() as stack:
        for number in range(CONNECTIONS):
            made = stack.enter_context(connection(calibrated))
            if number % 2:
                made.sendall(request(CHAT, chat("Hello.")[:40], 4000))
        answer = calibrated.chat("What is the capital of France?", temperature=0)
        assert answer["guard"][0]["verdict"] == "plain"


def test_a_reader_that_does_not_read_holds_up_nobody(calibrated):
    """Sixteen streams of 1,900 tokens whose client never reads: the others are answered, and all ends when they go."""
    with steady(calibrated), ExitStack() as stack:
        for _ in range(16):
            made = stack.enter_context(connection(calibrated, window=2048))
            made.sendall(request("/v1/completions", json.dumps(HARD | {"return_token_ids": True}).encode()))
        for _ in range(4):
            assert calibrated.chat("What is the capital of France?", temperature=0)["choices"]


def test_half_closed_streams_and_bodies_that_never_come_are_let_go(calibrated):
    aborted = 'sirl_unreported_responses_total{reason="aborted"}'

    def count() -> float:
        lines = calibrated.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(aborted))

    before = count()
    with steady(calibrated), ExitStack() as stack:
        for number in range(12):
            made = stack.enter_context(connection(calibrated))
            if number % 3:
                made.sendall(request("/v1/completions", json.dumps(HARD).encode()))
                assert made.recv(16).startswith(b"HTTP/1.1 200")
            else:
                made.sendall(request(CHAT, b'{"model"', 5000))
            made.shutdown(socket.SHUT_WR)
    calibrated.wait(lambda: count() >= before + 8)
