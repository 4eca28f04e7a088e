"""OpenAI's own client, unchanged: both kinds, every route it has for text, streams, tools and structured output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

import pytest
from openai import AsyncOpenAI, BadRequestError, OpenAI, pydantic_function_tool
from pydantic import BaseModel

pytestmark = pytest.mark.engine
TEXT = "How do I bake a loaf of bread?"
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
ASK = {"model": "sirl-tiny", "messages": [{"role": "user", "content": TEXT}], "temperature": 0, "max_tokens": 60}
RESPOND = {"model": "sirl-tiny", "input": TEXT, "temperature": 0, "max_output_tokens": 60}


class Place(BaseModel):
    """Somewhere; bounded, for in a free string a model this small finds no end."""

    city: Literal["Paris", "Rome"]


@pytest.fixture
def client(calibrated) -> Iterator[OpenAI]:
    with OpenAI(base_url=calibrated.url + "/v1", api_key="x", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def text(calibrated) -> str:
    """The greedy answer, whichever way it is asked for."""
    return calibrated.chat(TEXT, temperature=0, max_tokens=60)["choices"][0]["message"]["content"]


def test_chat_whole_and_streamed(client, text):
    (choice,) = client.chat.completions.create(**ASK).choices
    assert choice.message.content == text and choice.finish_reason == "stop" and len(text) > 20
    with client.chat.completions.stream(**ASK) as stream:
        events = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == text
    assert events.count("content.delta") > 1 and events[-1] == "content.done"


def test_responses_whole_and_streamed(client, text):
    whole = client.responses.create(**RESPOND)
    assert whole.output_text == text and whole.status == "completed" and whole.model_extra["guard"]
    with client.responses.stream(**RESPOND) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == text == final.output_text and len(deltas) > 1
    assert events[-1].type == "response.completed" and final.usage.output_tokens == whole.usage.output_tokens


def test_structured_output_is_parsed(client):
    (choice,) = client.chat.completions.parse(**{**ASK, "messages": WEATHER}, response_format=Place).choices
    assert choice.message.parsed == Place(city="Paris")
    response = client.responses.parse(**{**RESPOND, "input": WEATHER}, text_format=Place)
    assert response.output_parsed == Place(city="Paris")
    with client.chat.completions.stream(**{**ASK, "messages": WEATHER}, response_format=Place) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Place(city="Paris")


def test_tools_are_parsed_whole_and_streamed(client):
    asked = {**ASK, "messages": WEATHER, "tools": [pydantic_function_tool(Place, name="get_weather")]}
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (client.chat.completions.parse(**asked).choices[0], streamed):
        (call,) = choice.message.tool_calls
        assert choice.finish_reason == "tool_calls" and call.function.name == "get_weather"
        assert call.function.parsed_arguments == Place(city="Paris")


def test_completions_models_and_errors(client):
    whole = client.completions.create(model="sirl-tiny", prompt="The oven is", temperature=0, max_tokens=12)
    chunks = client.completions.create(model="sirl-tiny", prompt="The oven is", temperature=0, max_tokens=12, stream=True)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    assert [model.id for model in client.models.list()] == ["sirl-tiny", "sirl-tiny@base"]
    with pytest.raises(BadRequestError, match="guard.nonsense"):
        client.chat.completions.create(**ASK, extra_body={"guard": {"nonsense": 1}})


def test_the_asynchronous_client(calibrated, text):
    """Whole and streamed, chat and Responses, all at once."""

    async def chat(client: AsyncOpenAI) -> str:
        chunks = await client.chat.completions.create(**ASK, stream=True)
        return "".join([choice.delta.content or "" async for chunk in chunks for choice in chunk.choices])

    async def respond(client: AsyncOpenAI) -> str:
        async with client.responses.stream(**RESPOND) as stream:
            return (await stream.get_final_response()).output_text

    async def ask() -> list:
        async with AsyncOpenAI(base_url=calibrated.url + "/v1", api_key="x", max_retries=0, timeout=60) as client:
            whole = client.chat.completions.create(**ASK), client.responses.create(**RESPOND)
            return await asyncio.gather(*whole, chat(client), respond(client))

    completion, response, *streamed = asyncio.run(ask())
    assert [completion.choices[0].message.content, response.output_text, *streamed] == [text] * 4
