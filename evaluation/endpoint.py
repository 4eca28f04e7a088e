"""Who is asked: any OpenAI-compatible endpoint, by many at once."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from openai import APIStatusError, AsyncOpenAI, OpenAIError

from evaluation.attacks.attack import Query
from evaluation.dialect import Dialect
from evaluation.ending import Ending, ending, refused_with, spoken
from guard.errors import SirlError

RETRIES = 6
"""Times a request is sent again, later each time and as late as Retry-After says, before it counts as failed."""
TIMEOUT_S = 300.0
UNFIT = (400, 413, 422)
MEND = "give a --url that speaks OpenAI's chat completions and ends before /chat, in /v1 as a rule"


class EndpointError(SirlError):
    """A request that was not answered; one sentence with cause and mend, and no key in it. `unfit`: the endpoint does not
    take this request, for its length say, and others may do."""

    def __init__(self, message: str, unfit: bool = False) -> None:
        super().__init__(message)
        self.unfit = unfit


@dataclass(frozen=True, slots=True)
class Reply:
    """One response: its text, tokens of prompt and response, log p (nats) of the alternatives at each position where they
    were asked for, the report of our guard where the endpoint has one, and its ending where the text does not say."""

    text: str
    tokens: tuple[int, int] = (0, 0)
    logprobs: tuple[Mapping[str, float], ...] = ()
    guard: Mapping[str, Any] | None = None
    ending: Ending = Ending.SAID


class Target(Protocol):
    """Anything that answers queries: an endpoint, or a defence before one."""

    async def ask(self, query: Query, seed: int) -> Reply:
        """The response to one query. Raises EndpointError."""
        ...


@dataclass
class Endpoint:
    """A model behind an address such as http://127.0.0.1:8000/v1. `key` names the environment variable that holds the key;
    `at_once` requests are under way at most, the others wait; temperature and max_tokens are for queries that name none."""

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    at_once: int = 8
    temperature: float = 1.0
    max_tokens: int = 512
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else to send with every request."""
    client: AsyncOpenAI = field(init=False, repr=False)

    structured: bool = field(default=True, init=False)
    """Whether it has not refused to keep to a schema."""
    dialect: Dialect = field(default_factory=Dialect, init=False)

    def __post_init__(self) -> None:
        # A local server needs no key, and the client insists on some.
        key = os.environ.get(self.key) or "none"
        self.client = AsyncOpenAI(base_url=self.url, api_key=key, max_retries=RETRIES, timeout=TIMEOUT_S)
        self.free = asyncio.Semaphore(self.at_once)

    async def ask(self, query: Query, seed: int) -> Reply:
        """One chat completion. A response that is empty is one; `reasoning_content` is not part of it. An endpoint that
        will not have a schema, or a parameter by its usual name, is asked without from then on. Raises EndpointError."""
        if not (query.schema and self.structured):
            return await self._ask(query, seed)
        schema = {"name": "answer", "strict": True, "schema": query.schema}
        try:
            return await self._ask(query, seed, response_format={"type": "json_schema", "json_schema": schema})
        except EndpointError as error:
            if not error.unfit:
                raise
        reply = await self._ask(query, seed)
        self.structured = False
        return reply

    async def _ask(self, query: Query, seed: int, **wanted: Any) -> Reply:
        if query.logprobs:
            wanted |= {"logprobs": True, "top_logprobs": query.logprobs}
        wanted |= {
            "temperature": self.temperature if query.temperature is None else query.temperature,
            "max_tokens": query.max_tokens or self.max_tokens,
            "seed": seed,
        }
        async with self.free:
            try:
                answer = await self._completed(query, wanted)
            except OpenAIError as error:
                if isinstance(error, APIStatusError) and (told := refused_with(error)):
                    return Reply("", ending=told)
                unfit = isinstance(error, APIStatusError) and error.status_code in UNFIT
                raise EndpointError(explained(error, self), unfit) from None
            except ValueError:
                raise EndpointError(f"{self.url} answered with what is no JSON: {MEND}.") from None
        if not getattr(answer, "choices", None):  # a page, say, which the client takes for text
            raise EndpointError(f"{self.url} answered without a choice: {MEND}.")
        choice = answer.choices[0]
        reports = (answer.model_extra or {}).get("guard") or []
        positions = choice.logprobs.content if choice.logprobs and choice.logprobs.content else []
        return Reply(
            spoken(choice.message),
            (answer.usage.prompt_tokens, answer.usage.completion_tokens) if answer.usage else (0, 0),
            tuple({top.token: top.logprob for top in position.top_logprobs} for position in positions),
            reports[0] if reports else None,
            ending(choice, answer.usage),
        )

    async def _completed(self, query: Query, wanted: Mapping[str, Any]) -> Any:
        """The completion, in the endpoint's dialect. Raises OpenAIError, or ValueError for what is no JSON."""
        while True:
            sent = self.dialect.worded(wanted)
            try:
                return await self.client.chat.completions.create(
                    model=self.model,
                    messages=list(query.messages),  # type: ignore[arg-type]  # a typed dict a role; ours are checked when read
                    extra_body=dict(self.extra),
                    **sent,
                )
            except APIStatusError as error:
                if not self.dialect.learns(error, sent):
                    raise

    async def models(self) -> list[str]:
        """The names it serves. Raises EndpointError."""
        try:
            return [model.id async for model in self.client.models.list()]
        except OpenAIError as error:
            raise EndpointError(explained(error, self)) from None
        except (ValueError, AttributeError):
            raise EndpointError(f"{self.url}/models lists no models: name one by --model, or give another --url.") from None


def explained(error: OpenAIError, endpoint: Endpoint) -> str:
    """A failed request in a sentence, with neither key nor text of any prompt in it."""
    if isinstance(error, APIStatusError):
        status = error.status_code
        mend = {
            401: f"set {endpoint.key} to a key it takes",
            403: f"set {endpoint.key} to a key it takes",
            404: f"give a --model it serves and a --url that ends before /chat (here: {endpoint.model})",
            429: "ask less at once (--at-once)",
        }.get(status, f"the request does not suit it{about(error)}" if status in UNFIT else "see its log")
        return f"{endpoint.url} answered {status}: {mend}."
    return f"{endpoint.url} cannot be reached ({type(error).__name__}): start it, or give another --url."


def about(error: APIStatusError) -> str:
    """Which parameter it took offence at, and by what name, where it says: neither is text of a prompt."""
    told = [str(word) for word in (error.param, error.code) if word and re.fullmatch(r"[\w.\[\]-]{1,60}", str(word))]
    return f" ({', '.join(told)})" if told else ""
