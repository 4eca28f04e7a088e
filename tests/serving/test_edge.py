"""The guard where an operator puts other things around it: a root path, a middleware that compresses, keys for clients."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from anthropic import Anthropic

from tests.conftest import Server, running
from tests.serving.test_enforce import ANTHROPIC, CHAT, COMMON, COMPLETIONS, MESSAGES, RESPONSES, TEXT, TOUCH, events

pytestmark = [pytest.mark.engine, pytest.mark.slow]
KEY = "the-key-of-a-client"
AS_CLIENT = {"authorization": f"Bearer {KEY}", "accept-encoding": "gzip"}
LIMIT = {"max_tokens": 40}
ASKED = {
    CHAT: {**COMMON, **LIMIT, "messages": MESSAGES},
    COMPLETIONS: {**COMMON, **LIMIT, "prompt": "The oven"},
    RESPONSES: {**COMMON, "max_output_tokens": 40, "input": TEXT},
    ANTHROPIC: {**COMMON, **LIMIT, "messages": MESSAGES},
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory) -> Iterator[Server]:
    flags = ["--root-path", "/llm", "--middleware", "starlette.middleware.gzip.GZipMiddleware", "--api-key", KEY]
    with running(tmp_path_factory.mktemp("edge") / "state", *flags, "--buffer-plain-rate", "1") as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server


def halted(path: str, body: dict) -> bool:
    """Whether a whole body says that the guard ended it."""
    if path == RESPONSES:
        return body["status"] == "incomplete" and body["incomplete_details"] == {"reason": "content_filter"}
    return body["stop_reason"] == "refusal" if path == ANTHROPIC else body["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("root", ["", "/llm"])
def test_every_shape_is_reported_and_halted(edge, path, root):
    """Packed for the client and read by the guard, whole and streamed."""
    trace = {"guard": {"trace": True}}
    plain = edge.post(root + path, {**ASKED[path], **trace}, headers=AS_CLIENT)
    assert plain.headers["content-encoding"] == "gzip" and not halted(path, plain.json())
    assert plain.json()["guard"][0]["per_token"] and plain.headers["x-sirl-adapter"] == "base"
    touched = edge.post(root + path, {**ASKED[path], "guard": TOUCH}, headers=AS_CLIENT)
    assert touched.status_code == 200 and halted(path, touched.json())
    assert touched.json()["guard"] == [{"index": 0, "action": "halt"}]
    for options, told in (({}, "none"), ({"guard": TOUCH}, "halt")):
        frames = events(edge.post(root + path, {**ASKED[path], **options, "stream": True}, headers=AS_CLIENT).text)
        (entry,) = [entry for frame in frames for entry in frame.get("guard", [])]
        assert entry["action"] == told


def test_other_ways_to_generate_need_the_key_and_are_seen(edge):
    for root in ("", "/llm"):
        for headers in ({}, {"authorization": "Bearer made-up"}, {"x-api-key": "made-up"}):
            for path in ("/invocations", "/tokenize", "/inference/v1/generate", CHAT):
                assert edge.post(root + path, ASKED[CHAT], headers=headers).status_code == 401, path
        before = edge.metric("sirl_unreported_responses_total")
        assert edge.post(root + "/invocations", ASKED[CHAT], headers=AS_CLIENT).status_code == 200
        assert edge.metric("sirl_unreported_responses_total") == before + 1
        guarded = edge.post(root + "/invocations", {**ASKED[CHAT], "guard": TOUCH}, headers=AS_CLIENT)
        assert guarded.status_code == 400 and "cannot be guarded" in guarded.json()["error"]["message"]
        assert all(edge.get(root + path).status_code == 200 for path in ("/health", "/metrics", "/version", "/ping"))
        assert edge.get(root + "/v1/models").status_code == 401


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_no_encoding_hides_what_is_asked(edge, encoding):
    """vLLM decodes what Python's JSON parser does: beams, `store` and `guard` in it are read there and here alike."""

    def asked(body: dict) -> httpx.Response:
        content = json.dumps({**ASKED[CHAT], **body}).encode(encoding)
        return httpx.post(
            edge.url + "/llm" + CHAT, content=content, headers={**AS_CLIENT, "content-type": "application/json"}, timeout=60
        )

    assert asked({"guard": TOUCH}).json()["choices"][0]["finish_reason"] == "content_filter"
    beams = asked({"use_beam_search": True, "n": 2, "guard": {"mode": "enforce"}})
    assert beams.status_code == 400 and "Beam search" in beams.json()["error"]["message"]
    before = edge.metric("sirl_unreported_responses_total")
    assert "guard" not in asked({"use_beam_search": True, "n": 2}).json()
    assert edge.metric("sirl_unreported_responses_total") > before
    assert asked({"store": False}).json()["guard"][0]["event_id"] is None
    assert asked({"store": True}).json()["guard"][0]["event_id"] is not None


def test_anthropics_client_gets_in_with_the_header_it_sends(edge):
    with Anthropic(api_key=KEY, base_url=edge.url + "/llm", max_retries=0, timeout=60) as client:
        message = client.messages.create(model="sirl-tiny", max_tokens=20, messages=MESSAGES)
    assert message.content[0].text and message.model_extra["guard"][0]["action"] == "none"


def test_a_key_is_one_client_by_whichever_header_it_comes(edge):
    first = edge.post(ANTHROPIC, ASKED[ANTHROPIC], headers={"x-api-key": KEY})
    second = edge.post(ANTHROPIC, ASKED[ANTHROPIC], headers={"authorization": f"bearer {KEY}", "x-api-key": "made-up"})
    wanted = {answer.json()["guard"][0]["event_id"] for answer in (first, second)}

    def stored() -> list[str]:
        found = edge.get("/llm/guard/v1/events", params={"limit": 1000}).json()["events"]
        return [event["client"] for event in found if event["id"] in wanted]

    clients = edge.wait(lambda: len(found := stored()) == 2 and found)
    assert None not in wanted and len(set(clients)) == 1


def test_the_first_token_is_timed_where_it_leaves(edge):
    """Once a stream, in every shape: the frames that open a response, of which /v1/responses has four, are not it."""
    for path, body in ASKED.items():
        before = edge.metric("sirl_delivered_ttft_seconds_count")
        with httpx.stream("POST", edge.url + path, json={**body, "stream": True}, headers=AS_CLIENT, timeout=60) as answer:
            assert list(answer.iter_lines())
        assert edge.metric("sirl_delivered_ttft_seconds_count") == before + 1
