"""What a client gets, and what it does not."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from guard.calibration import Calibration
from guard.verdict import Verdict
from tests.serving import reference

pytestmark = pytest.mark.engine
VERDICTS = {verdict.value for verdict in Verdict}
ASK = {"model": "sirl-tiny", "messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 32}


def test_the_report_has_the_fields_promised(calibrated):
    body = calibrated.chat("What is the capital of France?", n=2, seed=1)
    assert [entry["index"] for entry in body["guard"]] == [0, 1]
    for entry in body["guard"]:
        assert set(entry) == {"index", "verdict", "action", "entropy", "refusal_mass", "harm", "adapter", "event_id"}
        assert set(entry["entropy"]) == {"mean", "max", "tokens"}
        assert entry["verdict"] in VERDICTS - {"uncalibrated"} and entry["action"] == "none"
        assert 0 <= entry["refusal_mass"] <= 1 and 0 <= entry["entropy"]["mean"] <= entry["entropy"]["max"]
        assert entry["adapter"] == "base" and entry["harm"] is None, "the bundled calibration has no harm sense"


def test_headers_of_a_whole_answer(calibrated):
    answer = calibrated.post("/v1/chat/completions", ASK)
    assert answer.headers["x-sirl-adapter"] == "base"
    assert answer.headers["x-sirl-verdict"] == answer.json()["guard"][0]["verdict"]
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_without_report_body_and_headers_are_vllms(calibrated):
    """Beside the same request with the report, only the report is missing."""
    greedy = {**ASK, "temperature": 0}
    with_report = calibrated.post("/v1/chat/completions", greedy)
    without = calibrated.post("/v1/chat/completions", {**greedy, "guard": {"report": False}})
    body, bare = with_report.json(), without.json()
    del body["guard"]
    for changing in ("id", "created"):
        body.pop(changing), bare.pop(changing)
    assert body == bare
    ours = {"x-sirl-adapter", "x-sirl-verdict"}
    kept = {k: v for k, v in with_report.headers.items() if k not in ours | {"date", "content-length"}}
    assert set(with_report.headers) - set(without.headers) == ours
    assert kept == {k: v for k, v in without.headers.items() if k not in {"date", "content-length"}}
    assert int(without.headers["content-length"]) == len(without.content)


@pytest.mark.parametrize("options", [{"trace": "yes"}, {"verbose": True}, [], "trace", None, {"report": 1}])
def test_malformed_options_are_refused_in_one_sentence(server, options):
    answer = server.post("/v1/chat/completions", {**ASK, "guard": options})
    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert message.startswith("guard") and message.endswith(".") and "\n" not in message


def test_errors_are_vllms_own(server):
    assert server.post("/v1/chat/completions", {**ASK, "model": "nobody"}).status_code == 404
    broken = httpx.post(
        server.url + "/v1/chat/completions",
        content=b'{"guard": ',
        headers={"content-type": "application/json"},
        timeout=60,
    )
    assert broken.status_code == 400 and "guard" not in broken.json()


def test_the_openai_client_streams_and_sees_the_report(calibrated):
    with OpenAI(base_url=calibrated.url + "/v1", api_key="x") as client:
        chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    finishing = [c for c in chunks if any(choice.finish_reason for choice in c.choices)]
    (entry,) = finishing[-1].model_extra["guard"]
    assert entry["verdict"] in VERDICTS and entry["entropy"]["tokens"] == chunks[-1].usage.completion_tokens
    assert not any("guard" in (chunk.model_extra or {}) for chunk in chunks if chunk not in finishing)


def test_tools_and_many_clients(calibrated):
    """Tool definitions, system prompts and several turns go through; 40 at once all get their own report."""
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]

    async def one(client: AsyncOpenAI, n: int):
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Count from one to {n}."}]
        return await client.chat.completions.create(model="sirl-tiny", messages=messages, tools=tools, max_tokens=24)

    async def all_of_them():
        async with AsyncOpenAI(base_url=calibrated.url + "/v1", api_key="x") as client:
            return await asyncio.gather(*(one(client, n) for n in range(40)))

    for answer in asyncio.run(all_of_them()):
        assert answer.model_extra["guard"][0]["entropy"]["tokens"] == answer.usage.completion_tokens


def test_responses_and_messages_routes_carry_the_report(calibrated):
    responses = calibrated.post("/v1/responses", {"model": "sirl-tiny", "input": "Hello.", "max_output_tokens": 24})
    assert responses.status_code == 200 and responses.json()["guard"][0]["verdict"] in VERDICTS
    messages = calibrated.post("/v1/messages", {**ASK, "max_tokens": 24})
    assert messages.status_code == 200 and messages.json()["guard"][0]["verdict"] in VERDICTS


def test_a_flag_vllm_reads_as_false_does_not_leave_the_watch(calibrated):
    """vLLM takes "false" for False; so do we, or beam search would be a way past every verdict."""
    for no in (False, "false", 0, "off"):
        assert calibrated.chat("Hello.", use_beam_search=no)["guard"][0]["verdict"] in VERDICTS
    body = {"model": "sirl-tiny", "input": "Hello.", "max_output_tokens": 8, "use_beam_search": True}
    assert calibrated.post("/v1/responses", body).json()["guard"]


def unreported(server, reason: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith(f'sirl_unreported_responses_total{{reason="{reason}"}}')]
    return float(line.rsplit(" ", 1)[1])


def test_beam_search_is_passed_and_counted(server):
    before = unreported(server, "beam_search")
    answer = server.post(
        "/v1/completions", {"model": "sirl-tiny", "prompt": "The", "use_beam_search": True, "n": 2, "max_tokens": 4}
    )
    assert answer.status_code == 200 and "guard" not in answer.json()
    assert unreported(server, "beam_search") > before


def test_a_client_that_walks_away_is_counted_and_harms_nobody(server):
    before = unreported(server, "aborted")
    body = {**ASK, "max_tokens": 1500, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", server.url + "/v1/chat/completions", json=body, timeout=30) as answer:
        next(answer.iter_lines())
    server.wait(lambda: unreported(server, "aborted") > before)
    assert server.chat("Hello.")["choices"]


def test_no_text_of_anybody_is_in_logs_metrics_or_status(calibrated):
    marked = "How do I sabotage the mill wheel of Quorbelund?"
    told = calibrated.chat(marked, seed=1)["choices"][0]["message"]["content"]
    calibrated.post("/v1/chat/completions", {"model": "sirl-tiny", "messages": marked})  # refused with a 400
    calibrated.post("/v1/chat/completions", {"model": "sirl-tiny", "messages": [], "guard": {marked: 1}})
    for text in (calibrated.log.read_text(), calibrated.get("/metrics").text, calibrated.get("/guard/v1/status").text):
        assert "Quorbelund" not in text and (len(told) < 20 or told not in text)


def test_storing_is_opted_out_of_and_internal_traffic_is_not_counted(calibrated):
    """`store: false` stores nothing; our own traffic is in neither buffer nor verdict counts nor TTFT."""
    refused = "How do I sabotage the mill wheel?"
    stored = [calibrated.chat(refused, seed=seed)["guard"][0]["event_id"] for seed in range(4)]
    assert all(stored), "refusals, risky and contested answers are stored unless their client objects"
    assert all(calibrated.chat(refused, store=False, seed=seed)["guard"][0]["event_id"] is None for seed in range(4))
    counted, timed = calibrated.metric("sirl_verdicts_total"), calibrated.metric("sirl_delivered_ttft_seconds_count")
    own = calibrated.chat(refused, headers=calibrated.internal, seed=1)["guard"][0]
    assert own["event_id"] is None
    with httpx.stream(
        "POST",
        calibrated.url + "/v1/chat/completions",
        json={**ASK, "stream": True},
        headers=calibrated.internal,
        timeout=60,
    ):
        pass
    assert calibrated.metric("sirl_verdicts_total") == counted
    assert calibrated.metric("sirl_delivered_ttft_seconds_count") == timed
    forged = calibrated.chat(refused, headers={"x-sirl-internal": "0" * 64}, seed=1)
    assert calibrated.metric("sirl_verdicts_total") == counted + 1 and forged["guard"][0]["verdict"] in VERDICTS


def test_a_stored_event_is_what_was_said(calibrated):
    """An acknowledged event can be read back: same text, same entropies, a hashed client."""
    ids = {}
    for seed in range(12):
        body = calibrated.chat("How can I sabotage the mill wheel?", seed=seed, headers={"authorization": "Bearer me"})
        if event := body["guard"][0]["event_id"]:
            ids[event] = body
    assert ids, "no refusal, risky or contested answer among twelve to a harmful request"

    def stored():
        listed = {event["id"]: event for event in calibrated.get("/guard/v1/events?limit=1000").json()["events"]}
        return listed if set(ids) <= set(listed) else None

    listed = calibrated.wait(stored)
    for event, body in ids.items():
        assert listed[event]["response"] == body["choices"][0]["message"]["content"]
        assert listed[event]["entropy_mean"] == pytest.approx(body["guard"][0]["entropy"]["mean"], abs=1e-5)
        assert (
            "mill wheel" in listed[event]["prompt"]
            and "me" != listed[event]["client"]
            and len(listed[event]["client"]) == 32
        )


def test_refusal_mass_along_the_response(calibrated):
    """The shipped mass is the openings' probability in the forward pass, at the node the response decided at."""
    openings = Calibration.load(calibrated.calibration).openings
    for seed in range(6):
        body = calibrated.chat("How do I sabotage the mill wheel?", seed=seed, return_token_ids=True)
        tokens = body["choices"][0]["token_ids"]
        logits = reference.logits(body["prompt_token_ids"], tokens)
        assert body["guard"][0]["refusal_mass"] == pytest.approx(reference.mass(openings, logits, tokens), abs=2e-4)


def test_metrics_pass_promtool(calibrated):
    from tests.deploy.promtool import check_exposition

    calibrated.chat("Hello.")
    check_exposition(calibrated.get("/metrics").text)


def test_stream_frames_are_plain(server):
    """No comments, no error frames, `data: ` with its space, [DONE] at the end."""
    with httpx.stream("POST", server.url + "/v1/chat/completions", json={**ASK, "stream": True}, timeout=60) as answer:
        raw = b"".join(answer.iter_bytes())
    frames = [frame for frame in raw.split(b"\n\n") if frame]
    assert frames[-1] == b"data: [DONE]" and all(frame.startswith(b"data: ") for frame in frames)
    assert all("error" not in json.loads(frame[6:]) for frame in frames[:-1])
