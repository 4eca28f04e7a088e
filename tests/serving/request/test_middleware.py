"""The HTTP edge without an engine behind it: splicing, options, loopback."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy import Action, Mode, Policy
from online.events.client import address_block, client_hash
from serving.admin.access import loopback
from serving.request.exchange import current
from serving.request.middleware import OFF_LOOP
from serving.request.offered_models import OfferedModels
from serving.request.reporter import spliced
from tests.serving.request.edge import answer, answered, call


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False), min_size=1))
def test_splicing_adds_one_member_and_keeps_every_other_byte(body):
    raw = json.dumps(body).encode()
    result = spliced(raw, [answer()])
    assert result.startswith(raw[:-1]) and json.loads(result)["guard"][0]["entropy"]["mean"] == 1.0


@pytest.mark.parametrize("raw", [b"[1, 2]", b"", b'"text"', b"null"])
def test_what_is_no_object_is_left_alone(raw):
    assert spliced(raw, [answer()]) == raw


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


def test_a_body_that_is_too_large_is_refused_in_one_sentence_and_goes_no_further():
    status, body, seen = call(b"x" * (1 << 20) + b"x", max_body_mib=1)
    assert status == 413 and not seen and "guard.max_body_mib" in json.loads(body)["error"]["message"]
    assert call(b"x" * (1 << 20) + b"x", max_body_mib=1, lengthless=True)[0] == 413, "that says nothing of its length"
    assert call(b"x" * (1 << 20), max_body_mib=1)[0] == 200


@pytest.mark.parametrize("claimed", [b"1048577", b"0001048577", b"9" * 5000])
def test_a_body_that_claims_to_be_too_large_is_not_waited_for(claimed):
    status, _, seen = call(b"{}", headers=[(b"content-length", claimed)], max_body_mib=1, lengthless=True)
    assert status == 413 and not seen


def test_what_takes_no_prompt_takes_little():
    """Administration, and other methods than POST; our own processes send rollouts there, which are long."""
    large, own = b"x" * ((64 << 10) + 1), [(b"x-sirl-internal", b"k" * 64)]
    for path, method in (("/guard/v1/rollouts", "POST"), ("/scale_elastic_ep", "POST"), ("/guard/v1/queue", "DELETE")):
        assert call(large, path=path, method=method)[0] == 413
        assert call(large[1:], path=path, method=method)[0] == 200
    assert call(large, path="/guard/v1/rollouts", headers=own)[0] == 200
    assert call(large, path="/tokenize")[0] == call(large, path="/invocations", root="/llm")[0] == 200


def test_a_large_body_is_read_in_a_thread_of_its_own():
    threads: list[int] = []

    def offers() -> OfferedModels:
        threads.append(threading.get_ident())
        return OfferedModels()

    for size in (10, OFF_LOOP):
        body = json.dumps({"guard": {"trace": True}, "prompt": "x" * size}).encode()
        assert call(body, offers=offers)[2][0][2].options.trace
    assert threads[0] == threading.get_ident() != threads[1]


def test_below_a_root_path_the_routes_are_the_same():
    """As the router goes by: with the root path before it, or without where a proxy took it off."""
    for root, path in (("", "/v1/completions"), ("/llm", "/v1/completions")):
        assert call(b"{}", root=root, path=path)[2][0][2].path == "/v1/completions"
    status, _, seen = call(b'{"guard": {"trace": true}}', root="/llm", path="/guard/v1/rollouts")
    assert status == 200 and seen[0][2] is None and b"guard" in seen[0][0], "administration is none of the guard's traffic"


def test_a_name_that_is_closed_is_refused_and_a_header_names_as_a_body_does():
    """`/invocations` takes the model from a header where there is one."""
    offers = lambda: OfferedModels(("m",), "v7", ("v3",))  # noqa: E731
    status, body, seen = call(b'{"model": "m@base"}', offers=offers)
    assert status == 400 and not seen and json.loads(body)["error"]["message"].startswith("model: m@base is closed")
    named = [(b"x-amzn-sagemaker-adapter-identifier", b"m@base")]
    assert call(b'{"model": "m"}', offers=offers, headers=named, path="/invocations")[0] == 400
    assert call(b'{"model": "m"}', offers=offers, headers=named)[0] == 200
    assert call(b'{"model": "m@v3"}', offers=offers)[2][0][2].adapter == "v3"

    async def models(send):
        body = b'{"data": [{"id": "m"}, {"id": "m@base"}, {"id": "m@v7"}]}'
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    listed = call(b"", offers=offers, path="/v1/models", method="GET", inner=models)[1]
    assert [model["id"] for model in json.loads(listed)["data"]] == ["m", "m@v7"]


@pytest.mark.parametrize(
    ("kind", "body", "packed"),
    [
        (b"application/json", b"\x1f\x8b", True),
        (b"text/plain", b"hello", False),
        (b"application/x-ndjson", b"{}\n{}", False),
    ],
)
def test_an_answer_that_cannot_be_read_is_counted_and_under_enforcement_refused(kind, body, packed):
    for policy, status in ((Policy(), 200), (Policy(Mode.ENFORCE), 500)):
        got, given, metrics = answered((kind, body), (kind, b"more"), policy=policy, packed=packed)
        assert got == status and metrics.unreported.labels("unreadable")._value.get() == 1
        assert given == body + b"more" if status == 200 else b"cannot be guarded" in given and b"more" not in given
    got, _, metrics = answered((kind, body), status=404, policy=Policy(Mode.ENFORCE))
    assert got == 404 and metrics.unreported.labels("unreadable")._value.get() == 0


def test_a_halted_answer_of_another_form_than_its_routes_is_not_sent():
    for body in (b"[1]", b"no json", b'"text"'):
        status, given, metrics = answered((b"application/json", body), policy=Policy(Mode.ENFORCE), acts=[Action.HALT])
        assert status == 500 and body not in given and metrics.unreported.labels("unreadable")._value.get() == 1


@pytest.mark.parametrize("acts", [[Action.NONE, Action.HALT, Action.NONE], [Action.HALT, Action.NONE], [Action.NONE] * 3])
def test_all_calls_of_one_response_are_told_and_one_that_was_halted_halts_it(acts):
    """The server may run tools itself, and ask the model again with what they gave."""
    whole = {"status": "completed", "output": [{"type": "message", "status": "completed"}], "incomplete_details": None}
    last = json.dumps({"type": "response.completed", "response": whole}, separators=(",", ":")).encode()
    halted = Action.HALT in acts
    for policy in (Policy(Mode.ENFORCE), Policy(Mode.ENFORCE, trusted=True)):
        as_body = answered(
            (b"application/json", json.dumps(whole).encode()), policy=policy, acts=acts, path="/v1/responses"
        )[1]
        stream = answered(
            (b"text/event-stream", b"event: response.completed\ndata: " + last + b"\n\n"),
            policy=policy, acts=acts, path="/v1/responses",
        )[1]  # fmt: skip
        name, _, text = stream.strip().partition(b"\ndata: ")
        frame, body = json.loads(text), json.loads(as_body)
        assert name == b"event: response.incomplete" if halted else name == b"event: response.completed"
        for told, response in ((frame["guard"], frame["response"]), (body["guard"], body)):
            assert [(entry["index"], entry["action"]) for entry in told] == list(enumerate(act.value for act in acts))
            assert response["status"] == ("incomplete" if halted else "completed")


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
