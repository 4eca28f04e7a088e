"""Endpoints: a judge's model behind any OpenAI-compatible API, asked at temperature 0."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from openai import APIStatusError, BadRequestError, OpenAI, OpenAIError

from evaluation.dialect import Dialect
from evaluation.ending import Ending, refused_with
from evaluation.judge import JudgeError

KEY_VARIABLE = "SIRL_JUDGE_KEY"
"""The environment variable that holds a judge's key where no other is named."""


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What an endpoint said, with the alternatives to its first token: log p (nats) by text; empty where it gives none."""

    text: str
    first: Mapping[str, float]


class JudgeModel:
    """One model at one base URL (which ends in /v1). May be shared by threads.

    key_variable: name of the environment variable with the key; unset, the default one means that none is needed.
    seconds: limit of one try, long enough for a busy server on a CPU; retries: further tries after a lost connection,
    408, 409, 429 or 5xx.
    """

    def __init__(
        self, model: str, url: str, key_variable: str | None = None, *, seconds: float = 600.0, retries: int = 4
    ) -> None:
        self.key_variable = key_variable or KEY_VARIABLE
        key = os.environ.get(self.key_variable)
        if key_variable and not key:
            raise JudgeError(f"the environment variable {key_variable} is not set: export the judge's key in it")
        self.model = model
        self.where = urlsplit(url).hostname or url
        self._logprobs = True
        self._dialect = Dialect()
        self._client = OpenAI(base_url=url, api_key=key or "none", timeout=seconds, max_retries=retries)

    def chat(self, messages: Sequence[Mapping[str, Any]], max_tokens: int, logprobs: int = 0) -> JudgeReply:
        """The answer to chat messages; with logprobs > 0 so many alternatives to its first token, where the server can."""
        asked: dict[str, Any] = {"model": self.model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        wanted = {"logprobs": True, "top_logprobs": logprobs} if logprobs else {}
        choice = self._first(self._client.chat.completions.create, asked, wanted)
        tokens = (choice.logprobs.content if choice.logprobs else None) or []
        first = {other.token: other.logprob for other in tokens[0].top_logprobs} if tokens else {}
        return JudgeReply(choice.message.content or "", first)

    def complete(self, prompt: str, max_tokens: int, logprobs: int = 0) -> JudgeReply:
        """How the model goes on from a text, by the completions API, which leaves the text as it is."""
        asked = {"model": self.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        choice = self._first(self._client.completions.create, asked, {"logprobs": logprobs} if logprobs else {})
        tops = (choice.logprobs.top_logprobs if choice.logprobs else None) or []
        return JudgeReply(choice.text or "", dict(tops[0] or {}) if tops else {})

    def _first(self, create: Any, asked: dict[str, Any], logprobs: dict[str, Any]) -> Any:
        """The first choice. A server that refuses to give logprobs is asked without them, and no more for them."""
        try:
            answer = self._answer(create, asked, logprobs)
        except OpenAIError as error:
            if isinstance(error, APIStatusError) and refused_with(error) is Ending.FILTERED:
                raise JudgeError(
                    f"a content filter keeps responses from the judge {self.model} at {self.where}: switch it off there, or "
                    "ask another judge"
                ) from None
            status = getattr(error, "status_code", None)
            what = f"HTTP {status}" if status else type(error).__name__
            raise JudgeError(
                f"the judge {self.model} at {self.where} gave no answer ({what}): check its address, model name and key"
            ) from None
        if not answer.choices:
            raise JudgeError(f"the judge {self.model} at {self.where} answered without a choice: check its server")
        return answer.choices[0]

    def _answer(self, create: Any, asked: dict[str, Any], logprobs: dict[str, Any]) -> Any:
        """The answer, in the server's dialect. Raises OpenAIError."""
        while True:
            told = self._logprobs  # another thread may learn meanwhile
            sent = self._dialect.worded({**asked, **(logprobs if told else {})})
            try:
                return create(**sent)
            except APIStatusError as error:
                if self._dialect.learns(error, sent):
                    continue
                if not (logprobs and told and isinstance(error, BadRequestError)) or refused_with(error):
                    raise
                self._logprobs = False
