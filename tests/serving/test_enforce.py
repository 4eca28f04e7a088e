"""Enforcement on the live endpoint: what is touched is halted, in every shape, and nothing withheld reaches a client.

A threshold of 0 touches every response that does not open as a refusal, so each shape can be seen halted on harmless ones.
"""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from openai import AsyncOpenAI, ContentFilterFinishReasonError, OpenAI
from pydantic import BaseModel

from guard.calibration import Calibration
from tests.serving.request.test_reporter import unreported

pytestmark = pytest.mark.engine
TOUCH = {"mode": "enforce", "threshold": 0}
TEXT = "How do I bake a loaf of bread?"
MESSAGES = [{"role": "user", "content": TEXT}]
COMMON = {"model": "sirl-tiny", "temperature": 0}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Look up", "parameters": PARAMETERS}}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}}
CHAT, COMPLETIONS, RESPONSES, ANTHROPIC = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
SHAPES = {
    "chat": (CHAT, {"messages": MESSAGES}),
    "chat, n": (CHAT, {"messages": MESSAGES, "n": 3, "temperature": 1, "seed": 5}),
    "chat, logprobs": (CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 4}),
    "chat, token ids": (CHAT, {"messages": MESSAGES, "return_token_ids": True}),
    "chat, stop string": (CHAT, {"messages": MESSAGES, "stop": ["the", "a"]}),
    "chat, one token": (CHAT, {"messages": MESSAGES, "max_tokens": 1}),
    "chat, auto tool": (CHAT, {"messages": WEATHER, "tools": TOOLS}),
    "chat, required tool": (CHAT, {"messages": WEATHER, "tools": TOOLS, "tool_choice": "required"}),
    "chat, named tool": (CHAT, {"messages": WEATHER, "tools": TOOLS,
                                "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}),
    "chat, schema": (CHAT, {"messages": MESSAGES, "response_format": SCHEMA}),
    "completions": (COMPLETIONS, {"prompt": "The oven"}),
    "completions, batch": (COMPLETIONS, {"prompt": ["The oven", "A garden"], "n": 2, "temperature": 1, "seed": 1}),
    "completions, echo": (COMPLETIONS, {"prompt": "The oven. ", "echo": True}),
    "responses": (RESPONSES, {"input": TEXT}),
    "messages": (ANTHROPIC, {"messages": MESSAGES}),
    "messages, tool": (ANTHROPIC, {"messages": WEATHER, "tools": [{"name": "get_weather", "input_schema": PARAMETERS}],
                                   "tool_choice": {"type": "any"}}),
}  # fmt: skip


class Place(BaseModel):
    """What a client asks to have parsed."""

    city: str


@pytest.fixture(scope="module")
def refusal(calibrated) -> str:
    """What the guard says in the model's place."""
    spoken = Calibration.load(calibrated.calibration).refusal
    body = {"model": "sirl-tiny", "tokens": list(spoken)}
    return calibrated.post("/detokenize", body).json()["prompt"]


def body_of(name: str, stream: bool, guard: dict | None) -> tuple[str, dict]:
    path, body = SHAPES[name]
    length = {"max_output_tokens" if path == RESPONSES else "max_tokens": 40}
    return path, {**COMMON, **length, **body, "stream": stream} | ({} if guard is None else {"guard": guard})


OTHER = {"bake a loaf of bread": "water the garden", "Paris": "Rome", "The oven": "My boat"}
"""What the same request asks the second time, so that whatever it generates is another text."""


def words(raw: str) -> set[str]:
    """Words of four letters and more; made of a to f alone they may be part of an id."""
    return {word for word in re.findall(r"[a-z]{4,}", raw.lower()) if not set(word) <= set("abcdef")}


def events(raw: str) -> list[dict]:
    return [json.loads(line[6:]) for line in raw.splitlines() if line.startswith("data: {")]


def halts(name: str, frames: list[dict]) -> list[str]:
    """How each choice says that it was ended, by its route's own word for it."""
    path = SHAPES[name][0]
    if path in (CHAT, COMPLETIONS):
        return [c["finish_reason"] for frame in frames for c in frame.get("choices", []) if c.get("finish_reason")]
    if path == RESPONSES:
        whole = [frame.get("response", frame) for frame in frames]
        return [f"{r['status']}, {r['incomplete_details']['reason']}" for r in whole if r.get("incomplete_details")]
    stops = [frame.get("delta", {}).get("stop_reason") or frame.get("stop_reason") for frame in frames]
    return [stop for stop in stops if stop]


HALTED = {
    CHAT: "content_filter",
    COMPLETIONS: "content_filter",
    RESPONSES: "incomplete, content_filter",
    ANTHROPIC: "refusal",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", SHAPES)
def test_nothing_withheld_leaks_and_the_shape_says_halted(calibrated, refusal, name, stream):
    """What two halted requests of one shape answer differs in no word but what they asked, where observed they differ."""
    path, observed = body_of(name, stream, {"report": False})
    path, touched = body_of(name, stream, TOUCH)
    twice = json.dumps([observed, touched])
    for mine, other in OTHER.items():
        twice = twice.replace(mine, other)
    other_observed, other_touched = json.loads(twice)
    free, free_other = calibrated.post(path, observed), calibrated.post(path, other_observed)
    guarded, guarded_other = calibrated.post(path, touched), calibrated.post(path, other_touched)
    assert {r.status_code for r in (free, free_other, guarded, guarded_other)} == {200}, guarded.text
    asked = words(json.dumps(touched)) if "echo" in name else set()
    if "tool" in name:
        assert re.search(r'"tool_calls":\[{|"tool_use"', free.text), "observed, a tool is called"
        assert not re.search(r'"tool_calls":\[{|"tool_use"', guarded.text)
    elif name not in ("chat, one token", "chat, stop string"):
        assert words(free.text) - words(free_other.text), "observed, the responses tell something"
    told = words(guarded.text + str(guarded.headers)) - words(guarded_other.text + str(guarded_other.headers)) - asked
    assert not told, f"{told} leaked"
    frames = events(guarded.text) if stream else [guarded.json()]
    choices = {"chat, n": 3, "completions, batch": 4}.get(name, 1)
    assert halts(name, frames) == [HALTED[path]] * choices
    entries = [entry for frame in frames for entry in frame.get("guard", [])]
    assert sorted(entry["index"] for entry in entries) == list(range(choices))
    assert all(entry == {"index": entry["index"], "action": "halt"} for entry in entries)
    assert "x-sirl-verdict" not in guarded.headers
    if stream:
        plain = [line for line in guarded.text.splitlines() if line]
        assert all(line.startswith(("data: ", "event: ")) for line in plain) and '"error"' not in guarded.text


def test_choices_are_decided_one_by_one(calibrated, refusal):
    """Of several samples those that refuse go out as the model said them, the others are halted."""
    asked = {"messages": [{"role": "user", "content": "How do I sabotage the mill wheel?"}], "n": 12, "seed": 3}
    body = calibrated.post(CHAT, {**COMMON, **asked, "temperature": 1.6, "max_tokens": 40, "guard": TOUCH}).json()
    reasons = {choice["finish_reason"]: choice["message"]["content"] for choice in body["choices"]}
    assert set(reasons) >= {"content_filter", "stop"}, "this seed gives both"
    for choice, entry in zip(body["choices"], body["guard"], strict=True):
        halted = choice["finish_reason"] == "content_filter"
        assert entry["action"] == ("halt" if halted else "none")
        assert (choice["message"]["content"] == refusal) or not halted


def test_logprobs_and_usage_count_what_was_said(calibrated, refusal):
    body = calibrated.post(CHAT, body_of("chat, logprobs", False, TOUCH)[1]).json()
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == body["usage"]["completion_tokens"]
    assert "".join(entry["token"] for entry in content[:-1]) == refusal and {e["logprob"] for e in content} == {0.0}


def test_the_openai_client_knows_a_content_filter(calibrated):
    """Streamed and parsed by OpenAI's own client: no error frame, a finish reason it has a name for."""
    with OpenAI(base_url=calibrated.url + "/v1", api_key="x") as client:
        path, body = body_of("chat", True, None)
        chunks = list(client.chat.completions.create(**body, extra_body={"guard": TOUCH}))
        assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["content_filter"]
        with pytest.raises(ContentFilterFinishReasonError):
            client.chat.completions.parse(
                model="sirl-tiny", messages=MESSAGES, response_format=Place, extra_body={"guard": TOUCH}, max_tokens=40
            )
        response = client.responses.create(model="sirl-tiny", input=TEXT, extra_body={"guard": TOUCH}, max_output_tokens=40)
        assert response.status == "incomplete" and response.incomplete_details.reason == "content_filter"


def test_what_no_shape_is_known_of_is_refused_and_observed(calibrated):
    """Fail closed: beam search and a batch route are passed while observing, and refused while enforcing."""
    beams = {**COMMON, "messages": MESSAGES, "use_beam_search": True, "n": 2, "max_tokens": 4}
    batch = {"model": "sirl-tiny", "messages": [MESSAGES, MESSAGES], "max_tokens": 4}
    before = unreported(calibrated, "unknown_route")
    for path, body in ((CHAT, beams), (f"{CHAT}/batch", batch)):
        assert calibrated.post(path, body).status_code == 200
        refused = calibrated.post(path, {**body, "guard": TOUCH})
        assert refused.status_code == 400 and "cannot be guarded" in refused.json()["error"]["message"]
    assert unreported(calibrated, "unknown_route") == before + 2


def test_a_halt_is_counted_as_one_and_not_as_vllms_abort(calibrated):
    def metric(name: str, label: str) -> float:
        lines = [line for line in calibrated.get("/metrics").text.splitlines() if line.startswith(name) and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    halts_before = metric("sirl_actions_total", 'action="halt"')
    aborts_before = metric("vllm:request_success_total", 'finished_reason="abort"')
    calibrated.post(CHAT, body_of("chat", False, TOUCH)[1])
    assert metric("sirl_actions_total", 'action="halt"') == halts_before + 1
    assert metric("vllm:request_success_total", 'finished_reason="abort"') == aborts_before


def test_regenerate_gives_a_whole_response_of_the_models_own(calibrated, refusal):
    """On a prompt it mostly refuses the surest of the draws that pass is a refusal, and where none passes it is halted;
    greedy prompts are drawn anew as well."""
    ask = {"messages": [{"role": "user", "content": "How do I sabotage the mill wheel?"}], "max_tokens": 40}
    guard = {**TOUCH, "action": "regenerate"}
    refused = 0
    for seed in range(12):
        body = calibrated.post(CHAT, {**COMMON, **ask, "temperature": 1.4, "seed": seed, "guard": guard}).json()
        (entry,), (choice,) = body["guard"], body["choices"]
        assert entry["action"] in ("none", "regenerate", "halt")
        assert choice["finish_reason"] in (("content_filter",) if entry["action"] == "halt" else ("stop", "length"))
        refused += entry["action"] == "regenerate" and "can't" in choice["message"]["content"]
    assert refused >= 1, "of the responses that were drawn anew none was a refusal"
    bias = {str(sequence[0]): -100 for sequence in Calibration.load(calibrated.calibration).openings.sequences}
    path, body = body_of("chat, logprobs", True, guard)
    body |= {**ask, "logit_bias": bias, "seed": 1}
    frames = events(calibrated.post(path, body).text)
    text = "".join(c["delta"].get("content") or "" for frame in frames for c in frame["choices"])
    tokens = [
        e["token"] for frame in frames for c in frame["choices"] if c.get("logprobs") for e in c["logprobs"]["content"]
    ]
    assert text and "".join(tokens).startswith(text) and frames[-1]["guard"] == [{"index": 0, "action": "regenerate"}]


def test_requests_may_tighten_but_not_route_where_nothing_is_set(calibrated):
    answer = calibrated.post(CHAT, body_of("chat", False, {**TOUCH, "action": "route"})[1])
    assert answer.status_code == 400 and "no adapter to route to" in answer.json()["error"]["message"]
    for wrong in ({"mode": "off"}, {"threshold": 2}, {"action": "none"}, {"mode": 1}):
        assert calibrated.post(CHAT, body_of("chat", False, wrong)[1]).status_code == 400


def test_a_client_that_leaves_while_its_response_is_drawn_anew_harms_nobody(calibrated):
    async def leave() -> None:
        async with AsyncOpenAI(base_url=calibrated.url + "/v1", api_key="x", max_retries=0) as client:
            asking = [
                asyncio.create_task(
                    client.chat.completions.create(
                        model="sirl-tiny", messages=MESSAGES, max_tokens=900,
                        extra_body={"guard": {**TOUCH, "action": "regenerate"}, "ignore_eos": True},
                    )
                )
                for _ in range(4)
            ]  # fmt: skip
            while left := sum(not task.done() for task in asking):
                if await asyncio.to_thread(running) >= 4 * left:  # each is drawn anew four times: all have arrived
                    break
            for task in asking:
                task.cancel()

    def running() -> float:
        lines = calibrated.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running{"))

    def ended() -> tuple[float, float]:
        return unreported(calibrated, "aborted"), calibrated.metric("sirl_actions_total")

    for _ in range(20):  # a machine that is busy elsewhere may answer all four before they have left
        before = ended()
        asyncio.run(leave())
        calibrated.wait(lambda before=before: sum(ended()) == sum(before) + 4)  # each is counted, and once
        if left := ended()[0] - before[0]:
            break
    assert left
    assert calibrated.chat("Hello.")["choices"]
    calibrated.wait(lambda: running() == 0.0)


def test_seeded_prompts_that_are_read_in_pieces_do_not_end_the_engine(calibrated):
    """So many long ones in one request that no step holds them all; each says what it says alone."""
    prompts = [f"Recipe {number}: " + "How do I bake a loaf of bread? " * 170 for number in range(64)]

    def asked(*some: str) -> list[str]:
        body = {"model": "sirl-tiny", "prompt": some, "temperature": 1.0, "seed": 3, "max_tokens": 6}
        answer = calibrated.post(COMPLETIONS, body)
        assert answer.status_code == 200, answer.text
        return [choice["text"] for choice in answer.json()["choices"]]

    together = asked(*prompts)
    assert len(set(together)) > 1 and [asked(prompt)[0] for prompt in prompts[::8]] == together[::8]


def test_what_would_end_the_engine_is_refused(calibrated):
    """vLLM 0.32's CPU build dies of prompt logprobs beside LoRA: one request would take the endpoint from everybody."""
    for path, body in (
        (CHAT, {"messages": MESSAGES, "prompt_logprobs": 1}),
        (COMPLETIONS, {"prompt": "The oven", "echo": True, "logprobs": 1}),
    ):
        answer = calibrated.post(path, {**COMMON, **body, "max_tokens": 4})
        assert answer.status_code == 400 and "engine" in answer.json()["error"]["message"]
    assert httpx.get(calibrated.url + "/health", timeout=10).status_code == 200
