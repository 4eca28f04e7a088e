"""The HTTP edge without an engine behind it: splicing, options, loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from guard.policy import Action, Mode, Policy
from guard.record import ResponseRecord
from guard.verdict import Verdict
from online.event import address_block, client_hash
from online.options import GuardSettings
from serving.access import loopback
from serving.metrics import Metrics
from serving.middleware import GuardMiddleware, spliced
from serving.policies import Policies
from serving.shapes import SHAPES
from serving.traffic import Answer, Request, current, number


def answer(index: int = 0) -> Answer:
    record = ResponseRecord()
    record.extend([5, 6], [0.5, 1.5], [float("nan")] * 2)
    return Answer(Request(path="/v1/chat/completions"), index, "base", record, verdict=Verdict.PLAIN)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False), min_size=1))
def test_splicing_adds_one_member_and_keeps_every_other_byte(body):
    raw = json.dumps(body).encode()
    result = spliced(raw, [answer()])
    assert result.startswith(raw[:-1]) and json.loads(result)["guard"][0]["entropy"]["mean"] == 1.0


@pytest.mark.parametrize("raw", [b"[1, 2]", b"", b'"text"', b"null"])
def test_what_is_no_object_is_left_alone(raw):
    assert spliced(raw, [answer()]) == raw


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_json_cannot_hold_are_null(value):
    assert number(value) is None


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "127.0.0.1:80", "[::1]:8000", "::1", "127.8.8.8"]
)
def test_hosts_of_this_machine(host):
    assert loopback(host)


@pytest.mark.parametrize(
    "host", ["", "example.com", "localhost.example.com", "127.0.0.1.nip.io", "10.0.0.1", "0.0.0.0", "[::2]:1", "xn--local"]
)
def test_hosts_that_are_not(host):
    assert not loopback(host)


def call(body: bytes, *, headers=(), draining=False, inner=None, max_body_mib=100, keyed=True) -> tuple[int, bytes, list]:
    """One POST through the middleware; returns status, body and what the application inside saw."""
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
        metrics=Metrics(CollectorRegistry()),
        report=True,
        internal_key="k" * 64,
        salt="s",
        policies=Policies(GuardSettings()),
        no_store_keys=(hashlib.sha256(b"private").hexdigest(),),
        keyed=keyed,
        max_body_mib=max_body_mib,
        draining=lambda: draining,
    )
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"content-length", str(len(body)).encode()), *headers],
        "client": ("10.0.0.9", 1),
    }
    asyncio.run(middleware(scope, receive, send))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), seen


def test_our_options_are_taken_out_and_the_length_is_right():
    status, _, seen = call(b'{"model": "m", "guard": {"trace": true}, "n": 1}')
    body, headers, request = seen[0]
    assert status == 200 and json.loads(body) == {"model": "m", "n": 1}
    assert int(headers[b"content-length"]) == len(body) and request.options.trace


def test_a_body_without_our_words_is_passed_on_byte_by_byte():
    raw = '{ "model" :"m",\n"x":1e3, "é":[1.10]}'.encode()
    assert call(raw)[2][0][0] == raw


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b'{"guard": ', b'["guard"]', b'"guard"', b"[" * 5000 + b'"guard"'])
def test_hostile_bodies_are_vllms_to_refuse(raw):
    status, _, seen = call(raw)
    assert status == 200 and seen[0][0] == raw


def test_a_body_that_is_too_large_is_refused_in_one_sentence_and_goes_no_further():
    status, body, seen = call(b"x" * (1 << 20) + b"x", max_body_mib=1)
    assert status == 413 and not seen and "guard.max_body_mib" in json.loads(body)["error"]["message"]
    assert call(b"x" * (1 << 20), max_body_mib=1)[0] == 200


def test_only_the_right_key_is_internal():
    for key, internal in ((b"k" * 64, True), (b"k" * 63, False), (b"", False), ("é".encode() * 32, False)):
        assert call(b"{}", headers=[(b"x-sirl-internal", key)])[2][0][2].internal is internal


def test_the_client_is_a_hash_of_its_key_or_address():
    first = call(b"{}", headers=[(b"authorization", b"Bearer one")])[2][0][2].client
    second = call(b"{}", headers=[(b"authorization", b"Bearer two")])[2][0][2].client
    peer = call(b"{}")[2][0][2].client
    assert len({first, second, peer}) == 3 and "one" not in first and "10.0.0.9" not in peer


def test_nobody_chooses_who_they_are():
    """Of two keys the first counts, which is the one that vLLM checks; where nobody checks keys, none does."""
    one, two = ((b"authorization", b"Bearer " + key) for key in (b"one", b"two"))
    assert call(b"{}", headers=[one, two])[2][0][2].client == call(b"{}", headers=[one])[2][0][2].client
    unchecked = {call(b"{}", headers=headers, keyed=False)[2][0][2].client for headers in ([], [one], [two])}
    assert unchecked == {call(b"{}")[2][0][2].client}


def test_a_key_that_opted_out_is_never_stored():
    for key, store in ((b"private", False), (b"public", True)):
        assert call(b'{"store": true}', headers=[(b"authorization", b"Bearer " + key)])[2][0][2].store is store


def test_neighbours_share_a_block_and_no_address_is_told():
    """The /24 of an IPv4 address, however it is written, and the /48 of an IPv6 one."""
    block = call(b"{}")[2][0][2].block
    assert block == client_hash("10.0.0.0/24", "s") and "10.0" not in block
    for one, other in (("10.0.0.200", "10.0.0.9"), ("::ffff:10.0.0.1", "10.0.0.9"), ("2001:db8:1::1", "2001:db8:1:ff::2")):
        assert address_block(one) == address_block(other)
    assert (
        client_hash("2001:db8:1:1::1", "s") == client_hash("2001:db8:1:1::ffff", "s") != client_hash("2001:db8:1:2::1", "s")
    )
    assert client_hash("10.0.0.1", "s") != client_hash("10.0.0.2", "s") and client_hash("a:b", "s") != client_hash(
        "a:c", "s"
    )
    assert len({address_block(a) for a in ("10.0.1.9", "10.0.0.9", "2001:db8:1::1", "2001:db8:2::1", "unix")}) == 5


def test_draining_turns_new_requests_away():
    status, body, seen = call(b"{}", draining=True)
    assert status == 503 and not seen and json.loads(body)["error"]["message"].endswith(".")


def test_frames_that_finish_choices_get_their_entries_wherever_the_network_cut_them():
    async def stream(send):
        current.get().answers += [answer(0), answer(1)]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for frame in (
            b'data: {"choices":[{"index":0,"finish_reason":null}]}\n\n',
            b'data: {"choices":[{"index":1,"finish_reason":"stop"}]}\n\n'
            b'data: {"choices":[{"index":0,"finish_reason":"length"}]}\n\n',
            b"data: [DONE]\n\n",
        ):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    _, body, _ = call(b"{}", inner=stream)
    frames = body.decode().split("\n\n")
    assert "guard" not in frames[0] and frames[3] == "data: [DONE]"
    assert [json.loads(frame[6:])["guard"][0]["index"] for frame in frames[1:3]] == [1, 0]


def test_a_halted_choice_reads_so_whatever_its_text_says():
    """In whole bodies and in streams, also where the text itself looks like the framing."""
    halted = answer(0)
    halted.action = Action.HALT

    async def stream(send):
        request = current.get()
        request.policy = Policy(Mode.ENFORCE)
        halted.request = request
        request.answers.append(halted)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        choice = {"index": 0, "delta": {"content": 'say data: {"finish_reason":"stop"}'}, "finish_reason": "stop"}
        frame = b"data: " + json.dumps({"choices": [choice]}, separators=(",", ":")).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": frame, "more_body": True})

    _, body, _ = call(b"{}", inner=stream)
    frame = json.loads(body.decode().strip()[6:])
    assert frame["choices"][0]["finish_reason"] == "content_filter" and frame["guard"] == [{"index": 0, "action": "halt"}]


@pytest.mark.parametrize("path", SHAPES)
def test_every_shape_has_a_word_for_a_halt(path):
    bodies = {
        "/v1/responses": {"status": "completed", "output": [{"type": "message", "status": "completed"}]},
        "/v1/messages": {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "x", "input": {}}]},
    }
    choices = {"choices": [{"index": i, "finish_reason": "tool_calls", "message": {"tool_calls": [1]}} for i in (0, 1)]}
    body = bodies.get(path, choices)
    SHAPES[path].body(body, {0})
    if path == "/v1/responses":
        assert body["status"] == body["output"][0]["status"] == "incomplete"
        assert body["incomplete_details"] == {"reason": "content_filter"}
    elif path == "/v1/messages":
        assert body["stop_reason"] == "refusal" and body["content"] == [{"type": "text", "text": ""}]
    else:
        assert [c["finish_reason"] for c in body["choices"]] == ["content_filter", "tool_calls"]
        assert [c["message"]["tool_calls"] for c in body["choices"]] == [[], [1]]
