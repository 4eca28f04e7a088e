"""LangChain's ChatOpenAI: whole and streamed answers, tools, structured output, and a halt it understands."""

from __future__ import annotations

import pytest

from tests.interop.tools import client

pytestmark = [pytest.mark.engine, pytest.mark.interop]
TEXT = "How do I bake a loaf of bread?"
PARIS = [{"name": "get_weather", "args": {"city": "Paris"}}]


@pytest.fixture(scope="module")
def made(calibrated, tmp_path_factory) -> dict:
    """What LangChain made of the endpoint's answers."""
    return client("langchain", calibrated.url, TEXT, home=tmp_path_factory.mktemp("langchain"))


@pytest.fixture(scope="module")
def said(calibrated) -> dict:
    """The same question, asked without LangChain."""
    return calibrated.chat(TEXT, temperature=0, max_tokens=60)


def test_an_answer_is_the_endpoints_own(made, said):
    """Text, finish reason and usage, invoked, streamed, asynchronous, in a batch and by the Responses API."""
    (choice,), usage = said["choices"], said["usage"]
    text = choice["message"]["content"]
    assert len(text) > 20 and made["invoke"]["text"] == text and made["invoke"]["finish"] == choice["finish_reason"]
    assert made["verdict"] == said["guard"][0]["verdict"]
    for way in ("invoke", "stream", "responses", "responses stream"):
        assert made[way]["text"] == text, way
        assert made[way]["usage"]["output_tokens"] == usage["completion_tokens"], way
    assert made["stream"]["chunks"] > 1 and made["responses stream"]["chunks"] > 1
    assert made["async"] == made["batch"] == [text, text]


def test_tools_are_called_and_their_answer_is_read(made):
    for way in ("tool", "tool stream"):
        assert made[way]["calls"] == PARIS and made[way]["finish"] == "tool_calls", way
    assert made["forced tool"]["calls"] == PARIS
    assert "weather in Paris" in made["after the tool"]["text"] and not made["after the tool"]["calls"]


def test_structured_output_is_parsed(made):
    assert made["structured"] == {"json_schema": {"city": "Paris"}, "function_calling": {"city": "Paris"}}


def test_a_halt_arrives_as_a_content_filter(made, said):
    """Whole and streamed; where structure was asked for as the error that openai's own client has for it."""
    for way in ("halted", "halted stream"):
        assert made[way]["finish"] == "content_filter" and made[way]["text"], way
        assert made[way]["text"] != said["choices"][0]["message"]["content"], way
    assert made["halted structure"]
