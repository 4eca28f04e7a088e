"""A true drop-in: plain vLLM and ours, the same requests in the same order, compared field by field.

Only ids, times and the rounding of floats may differ. Streams are compared choice by choice, not frame by frame: how many
tokens share a frame is a matter of timing.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

import models
from serving.processes.server_process import wait_until_healthy
from tests.conftest import free_port, running
from tests.serving.test_enforce import ANTHROPIC, CHAT, COMPLETIONS, PARAMETERS, RESPONSES, SCHEMA, TOOLS, WEATHER

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.interop]
FLAGS = (
    "--served-model-name sirl-tiny --dtype float32 --enforce-eager --max-num-seqs 64 --max-model-len 2048 "
    "--enable-auto-tool-choice --tool-call-parser hermes --enable-lora --max-loras 5 --max-cpu-loras 6 --max-lora-rank 16 "
    "--no-async-scheduling --host 127.0.0.1"
).split()
TEXTS = ("What is the capital of France?", "How do I bake a loaf of bread?", "Write me a short note about the garden.")
OPTIONS: list[dict] = [
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 0.7, "top_p": 0.8, "top_k": 30, "min_p": 0.02, "seed": 2},
    {"temperature": 1.3, "seed": 3, "n": 3},
    {"presence_penalty": 1.2, "frequency_penalty": 0.7, "repetition_penalty": 1.2, "seed": 4},
    {"logit_bias": {"40": 5, "41": -100}, "seed": 5},
    {"logprobs": True, "seed": 6},
    {"logprobs": True, "top_logprobs": 5, "temperature": 0},
    {"stop": ["the", " a"], "seed": 7},
    {"stop": "is", "include_stop_str_in_output": True, "temperature": 0},
    {"stop_token_ids": [16], "temperature": 0},
    {"max_tokens": 1, "temperature": 0},
    {"min_tokens": 12, "seed": 8},
    {"ignore_eos": True, "max_tokens": 60, "temperature": 0},
    {"return_token_ids": True, "temperature": 0},
    {"skip_special_tokens": False, "temperature": 0},
    {"structured_outputs": {"regex": "(yes|no|maybe), [a-z]{3,9}"}, "seed": 9},
    {"structured_outputs": {"choice": ["red", "green"]}, "temperature": 0},
    {"response_format": SCHEMA, "temperature": 0},
    {"response_format": {"type": "json_object"}, "temperature": 0, "max_tokens": 30},
    {"bad_words": ["the"], "temperature": 0},
    {"user": "someone", "temperature": 0, "metadata": {"a": "b"}},
    {"add_generation_prompt": False, "temperature": 0},
    {"store": False, "temperature": 0},
]
TURNS = [
    [{"role": "system", "content": "Answer briefly and politely."}, {"role": "user", "content": TEXTS[0]}],
    [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": TEXTS[1]}],
    [{"role": "user", "content": [{"type": "text", "text": TEXTS[2]}]}],
]
WRONG: list[tuple[str, object]] = [
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "model": "nobody"}),
    (CHAT, {}),
    (CHAT, {"messages": []}),
    (CHAT, {"messages": "x"}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "temperature": "warm"}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "temperature": -1}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9999}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "n": 0}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "top_p": 3}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 99}),
    (CHAT, {"messages": [{"role": "user", "content": "x " * 3000}]}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "stream_options": {"include_usage": True}}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "structured_outputs": {"regex": "("}}),
    (CHAT, {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "tool_choice": "sometimes"}),
    (COMPLETIONS, {"prompt": None}),
    (COMPLETIONS, {"prompt": ["", ""], "max_tokens": -3}),
    (RESPONSES, {"input": 3}),
    (ANTHROPIC, {"messages": [{"role": "user", "content": "x"}]}),
    ("/v1/nothing", {}),
    (CHAT, b"{"),
    (CHAT, b"\xff\xfe"),
    (CHAT, b""),
    (CHAT, b"[" * 3000),
]


def requests() -> Iterator[tuple[str, object]]:
    """Some 250 (route, body) pairs."""
    common = {"model": "sirl-tiny", "max_tokens": 24}
    for text, options, stream in itertools.product(TEXTS, OPTIONS, (False, True)):
        yield CHAT, {**common, "messages": [{"role": "user", "content": text}], "stream": stream, **options}
    for messages, stream in itertools.product(TURNS, (False, True)):
        yield CHAT, {**common, "messages": messages, "temperature": 0, "stream": stream}
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, stream in itertools.product(("auto", "none", "required", named), (False, True)):
        tools = {"tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_tokens": 60, "stream": stream}
        yield CHAT, {**common, "messages": WEATHER, **tools}
    usage = {"include_usage": True, "continuous_usage_stats": True}
    yield CHAT, {**common, "messages": WEATHER, "temperature": 0, "stream": True, "stream_options": usage}
    plain = [o for o in OPTIONS if not {"logprobs", "response_format", "add_generation_prompt", "metadata"} & set(o)]
    for options, stream in itertools.product([*plain, {"logprobs": 3, "temperature": 0}, {"suffix": None}], (False, True)):
        yield COMPLETIONS, {**common, "prompt": "The oven is", "stream": stream, **options}
    for prompt, stream in itertools.product((["Once", "A cat"], [[300, 301], [40, 41]], [42, 43, 44]), (False, True)):
        yield COMPLETIONS, {**common, "prompt": prompt, "temperature": 0, "stream": stream}
    yield COMPLETIONS, {**common, "prompt": "The oven", "echo": True, "temperature": 0}
    for extra, stream in itertools.product(({}, {"instructions": "Be kind."}, {"tools": []}), (False, True)):
        yield (
            RESPONSES,
            {"model": "sirl-tiny", "input": TEXTS[1], "max_output_tokens": 24, "temperature": 0, "stream": stream} | extra,
        )
    tool = {"tools": [{"name": "get_weather", "input_schema": PARAMETERS}]}
    for extra, stream in itertools.product(({}, {"system": "Be kind."}, {"stop_sequences": ["the"]}, tool), (False, True)):
        yield ANTHROPIC, {**common, "messages": WEATHER, "temperature": 0, "stream": stream} | extra
    yield CHAT, {**common, "messages": WEATHER, "use_beam_search": True, "n": 2, "max_tokens": 6}
    for path, body in WRONG:
        yield path, {"model": "sirl-tiny", **body} if isinstance(body, dict) else body
    yield "/tokenize", {"model": "sirl-tiny", "prompt": TEXTS[0]}
    yield "/detokenize", {"model": "sirl-tiny", "tokens": [40, 41, 42]}
    yield "/v1/embeddings", {"model": "sirl-tiny", "input": "x"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[str]:
    """`vllm serve` as it comes; returns its URL."""
    log, port = tmp_path_factory.mktemp("plain") / "log", free_port()
    environment = {
        **os.environ,
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_PLUGINS": "",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    # Its command looks up the version of a package `vllm`, which `vllm-cpu` is not called; the module it runs does not.
    module = "vllm.entrypoints.openai.api_server"
    command = [sys.executable, "-m", module, "--model", str(models.bundled()), *FLAGS, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


VARYING = re.compile(
    r"\b(chatcmpl|cmpl|resp|msg|rs|fc|call|toolu|ctc)(-tool)?[-_][0-9a-zA-Z]{8,}|\b[0-9a-f]{16,}\b|vllm-[\d.]+-[0-9a-f]{8}"
)
TIMES = {"created", "created_at", "completed_at"}


def settled(value: object) -> object:
    """A body without what may differ: ids and times."""
    if isinstance(value, dict):
        return {k: 0 if k in TIMES else settled(v) for k, v in value.items()}
    if isinstance(value, list):
        return [settled(v) for v in value]
    if isinstance(value, float):
        return round(value, 3) + 0.0
    return VARYING.sub("ID", value) if isinstance(value, str) else value


def gathered(raw: str) -> dict:
    """A stream, choice by choice: what its deltas add up to, all else as a set of frames."""
    text: dict[str, str] = {}
    frames: set[str] = set()
    for line in raw.splitlines():
        if not line.startswith("data: {"):
            frames.add(line)
            continue
        frame = settled(json.loads(line[6:]))
        rest = strip(frame, text, "")
        frames.add(json.dumps(rest, sort_keys=True))
    return {"text": text, "frames": sorted(frames)}


GROWING = {"content", "text", "arguments", "delta", "partial_json", "reasoning"}
COUNTING = {"sequence_number", "completion_tokens", "total_tokens"}


def strip(value, text: dict[str, str], path: str):
    """Move what grows from frame to frame out of a frame and into `text`."""
    if isinstance(value, dict):
        index = value.get("index", "")
        kept = {}
        for key, inner in value.items():
            where = f"{path}/{index}/{key}"
            if key in GROWING and isinstance(inner, str):
                text[where] = text.get(where, "") + inner
            elif key in ("logprobs", "token_ids", "prompt_token_ids", "tokens", "token_logprobs", "text_offset") and inner:
                text[where] = text.get(where, "") + json.dumps(inner)
            elif key not in COUNTING:
                kept[key] = strip(inner, text, where)
        return kept
    return [strip(inner, text, path) for inner in value] if isinstance(value, list) else value


def exchange(client: httpx.Client, url: str, path: str, body: object) -> dict:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(url + path, content=raw, headers={"content-type": "application/json"}, timeout=60)
    headers = {k: v for k, v in answer.headers.items() if k not in ("date", "content-length")}
    stream = answer.headers.get("content-type", "").startswith("text/event-stream")
    try:
        told: object = gathered(answer.text) if stream else settled(answer.json())
    except ValueError:
        told = answer.text
    return {"status": answer.status_code, "headers": headers, "body": told}


@pytest.mark.timeout(1200)
def test_the_same_requests_get_the_same_answers(plain, tmp_path):
    asked = list(requests())
    assert len(asked) > 240
    with running(tmp_path / "state", "--no-guard-report") as ours, httpx.Client() as client:
        different = []
        for path, body in asked:
            theirs, mine = exchange(client, plain, path, body), exchange(client, ours.url, path, body)
            if theirs != mine:
                different.append(f"{path} {json.dumps(body, default=str)[:300]}\n  vllm {theirs}\n  ours {mine}"[:1500])
        for path in ("/health", "/version", "/ping", "/v1/nothing", "/openapi.json"):
            theirs, mine = client.get(plain + path), client.get(ours.url + path)
            assert theirs.status_code == mine.status_code, path
        listed = [settled(client.get(url + "/v1/models").json()) for url in (plain, ours.url)]
        assert listed[0] == listed[1]
    assert not different, f"{len(different)} of {len(asked)} differ, the first ones:\n" + "\n".join(different[:5])
