"""LiteLLM's proxy before the endpoint: a client of the proxy gets what the endpoint said, guard and halts included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from openai import BadRequestError, OpenAI

from tests.conftest import free_port
from tests.interop.tools import QUIET, venv

pytestmark = [pytest.mark.engine, pytest.mark.interop]
TEXT, WEATHER = "How do I bake a loaf of bread?", "What is the weather in Paris?"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Look up", "parameters": PARAMETERS}}]
START_LIMIT_S = 240
TOUCH = {"guard": {"mode": "enforce", "threshold": 0.0}}


@pytest.fixture(scope="module")
def proxy(calibrated, tmp_path_factory) -> Iterator[OpenAI]:
    """A client of the proxy, which knows the endpoint as vLLM and as an OpenAI-compatible server."""
    home, port = tmp_path_factory.mktemp("litellm"), free_port()
    parameters = {"api_base": f"{calibrated.url}/v1", "api_key": "none"}
    models = [
        {"model_name": name, "litellm_params": {"model": f"{name}/sirl-tiny", **parameters}}
        for name in ("hosted_vllm", "openai")
    ]
    config = {"model_list": models, "general_settings": {"master_key": "sk-proxy"}, "litellm_settings": {"num_retries": 0}}
    (home / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [str(venv("litellm").with_name("litellm")), "--config", "config.yaml", "--telemetry", "False"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**QUIET, "HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        calibrated.wait(lambda: alive(port) or process.poll() is not None, START_LIMIT_S)
        assert process.poll() is None, (home / "log").read_text()[-3000:]
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-proxy", max_retries=0, timeout=60) as client:
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def alive(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).status_code == 200
    return False


@pytest.fixture(scope="module")
def said(calibrated) -> dict:
    """The same question, asked of the endpoint itself."""
    return calibrated.chat(TEXT, temperature=0, max_tokens=60)


def asked(name: str, text: str = TEXT, **more) -> dict:
    return {"model": name, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 60, **more}


def report(body: dict) -> list[dict]:
    """What the guard says of a response; which of two alike was stored is drawn by lot."""
    return [{**entry, "event_id": None} for entry in body["guard"]]


def streamed(client: OpenAI, body: dict) -> tuple[str, list[str], int]:
    """The text of a stream, its finish reasons, and in how many pieces it came."""
    choices = [choice for chunk in client.chat.completions.create(**body, stream=True) for choice in chunk.choices]
    pieces = [choice.delta.content for choice in choices if choice.delta.content]
    return "".join(pieces), [choice.finish_reason for choice in choices if choice.finish_reason], len(pieces)


@pytest.mark.parametrize("name", ["hosted_vllm", "openai"])
def test_an_answer_comes_through_whole_and_streamed(proxy, said, name):
    (choice,) = said["choices"]
    whole = proxy.chat.completions.create(**asked(name))
    assert whole.choices[0].message.content == choice["message"]["content"]
    assert whole.choices[0].finish_reason == choice["finish_reason"]
    assert whole.usage.completion_tokens == said["usage"]["completion_tokens"]
    assert report(whole.model_extra) == report(said), "it comes through as well"
    text, finish, pieces = streamed(proxy, asked(name))
    assert text == choice["message"]["content"] and finish == [choice["finish_reason"]] and pieces > 1
    response = proxy.responses.create(model=name, input=TEXT, temperature=0, max_output_tokens=60)
    assert response.output_text == text and report(response.model_extra) == report(said)


@pytest.mark.parametrize("name", ["hosted_vllm", "openai"])
def test_a_tool_call_comes_through(proxy, name):
    (choice,) = proxy.chat.completions.create(**asked(name, WEATHER), tools=TOOLS).choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and json.loads(call.function.arguments) == {"city": "Paris"}
    chunks = proxy.chat.completions.create(**asked(name, WEATHER), tools=TOOLS, stream=True)
    parts = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"city": "Paris"}


@pytest.mark.parametrize("name", ["hosted_vllm", "openai"])
def test_a_halt_comes_through(proxy, said, name):
    (choice,) = proxy.chat.completions.create(**asked(name), extra_body=TOUCH).choices
    assert choice.finish_reason == "content_filter" and choice.message.content != said["choices"][0]["message"]["content"]
    assert streamed(proxy, asked(name, extra_body=TOUCH)) == (choice.message.content, ["content_filter"], 1)


def test_a_refused_request_is_the_clients_error(proxy):
    """A 400 stays one, with the reason: the proxy takes no healthy endpoint for a broken one."""
    with pytest.raises(BadRequestError, match="guard.nonsense"):
        proxy.chat.completions.create(**asked("openai"), extra_body={"guard": {"nonsense": 1}})
