"""LangChain's ChatOpenAI as its users write it. Usage: langchain_client.py URL TEXT"""

import asyncio
import json
import sys
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import ContentFilterFinishReasonError
from pydantic import BaseModel

URL, TEXT = sys.argv[1:]
QUESTION = "What is the weather in Paris?"


class Place(BaseModel):
    """Somewhere; bounded, for in a free string a model this small finds no end."""

    city: Literal["Paris", "Rome"]


@tool
def get_weather(city: str) -> str:
    """Look up the weather."""
    return f"Rain in {city}."


def told(message: AIMessage) -> dict:
    """What of a message, or of the sum of a stream's chunks, the test looks at."""
    return {
        "text": message.text,
        "finish": message.response_metadata.get("finish_reason"),
        "calls": [{"name": call["name"], "args": call["args"]} for call in message.tool_calls],
        "usage": dict(message.usage_metadata or {}),
    }


def streamed(model, question) -> dict:
    chunks = list(model.stream(question))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {**told(whole), "chunks": sum(bool(chunk.text) for chunk in chunks)}


async def both(model) -> list[str]:
    """The same question whole and streamed, at the same time, through the asynchronous client."""

    async def stream() -> str:
        return "".join([chunk.text async for chunk in model.astream(TEXT)])

    whole, text = await asyncio.gather(model.ainvoke(TEXT), stream())
    return [whole.text, text]


def refuses_to_parse(model) -> bool:
    try:
        model.with_structured_output(Place, method="json_schema").invoke(TEXT)
    except ContentFilterFinishReasonError:
        return True
    return False


def main() -> None:
    common = {"base_url": f"{URL}/v1", "api_key": "none", "model": "sirl-tiny", "temperature": 0, "max_tokens": 60}
    model = ChatOpenAI(**common, stream_usage=True, include_response_headers=True)
    tools = ChatOpenAI(**common).bind_tools([get_weather])
    forced = ChatOpenAI(**common).bind_tools([get_weather], tool_choice="get_weather")
    asked = forced.invoke(QUESTION)
    turns = [HumanMessage(QUESTION), asked, *(ToolMessage(get_weather.invoke(c["args"]), tool_call_id=c["id"])
                                              for c in asked.tool_calls)]  # fmt: skip
    halting = ChatOpenAI(**common, extra_body={"guard": {"mode": "enforce", "threshold": 0.0}})
    first = model.invoke(TEXT)
    report = {
        "invoke": told(first),
        "verdict": first.response_metadata["headers"]["x-sirl-verdict"],
        "stream": streamed(model, TEXT),
        "async": asyncio.run(both(model)),
        "batch": [message.text for message in model.batch([TEXT, TEXT])],
        "responses": told(ChatOpenAI(**common, use_responses_api=True).invoke(TEXT)),
        "responses stream": streamed(ChatOpenAI(**common, use_responses_api=True), TEXT),
        "tool": told(tools.invoke(QUESTION)),
        "tool stream": streamed(tools, QUESTION),
        "forced tool": told(asked),
        "after the tool": told(tools.invoke(turns)),
        "structured": {
            method: model.with_structured_output(Place, method=method).invoke(QUESTION).model_dump()
            for method in ("json_schema", "function_calling")
        },
        "halted": told(halting.invoke(TEXT)),
        "halted stream": streamed(halting, TEXT),
        "halted structure": refuses_to_parse(halting),
    }
    print(json.dumps(report))


main()
