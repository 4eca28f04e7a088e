"""What an attack is: a generator of queries that is told the answers and speaks to no network itself.

Whoever runs it (`evaluation.run`) sends each batch of queries, at once or in turn, judges what the target said, and
sends the answers back; so concurrency, budgets, retries and resumption are its own affair and no attack's, and an attack is
tested without a server.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from evaluation.judge import Outcome
from evaluation.suite import Message, Prompt

Messages = tuple[Message, ...]
Role = Literal["target", "attacker", "translator"]
"""Whom a query is for: the endpoint under test, a model that writes attacks, or one that translates."""
Needs = Literal["attacker", "translator", "logprobs", "guard"]
"""What an attack cannot do without: one of the other endpoints, the target's logprobs, or the report of our own guard."""


@dataclass(frozen=True, slots=True)
class Query:
    """One request. `temperature`, `max_tokens`: None for the run's own; `logprobs`: alternatives wanted at each position;
    `schema`: the JSON schema that the answer should keep to, where the endpoint can see to it.

    `tries`: whether it asks for the goal. An answer to what leads up to it, or only looks at probabilities, reaches nothing.
    """

    messages: Messages
    to: Role = "target"
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: int = 0
    schema: Mapping[str, Any] | None = None
    tries: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    outcome, score: the judge's word on a target's answer, and how far it served the goal (0 not at all, 1 wholly); None and
    0 for other roles. logprobs: for each position, log p (nats) by token text. guard: our guard's report of the response.
    """

    text: str
    outcome: Outcome | None = None
    score: float = 0.0
    logprobs: tuple[Mapping[str, float], ...] = ()
    guard: Mapping[str, Any] | None = None


Tries = Generator[Sequence[Query], Sequence[Answer], None]
"""Yields batches of queries; each yield returns their answers, in order. It may end, or be closed, after any of them."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. tries(prompt, luck): queries that try to have the harmful `prompt` answered; all chance is `luck`'s.
    fewest: queries to the target up to the first that tries."""

    name: str
    about: str
    source: str
    tries: Callable[[Prompt, Random], Tries]
    needs: frozenset[Needs] = field(default_factory=frozenset)
    fewest: int = 1


def rewritten(write: Callable[[str, Random], str]) -> Callable[[Prompt, Random], Tries]:
    """The tries of an attack that only rewrites what is asked, once: write(goal, luck) -> the user's message."""

    def tries(prompt: Prompt, luck: Random) -> Tries:
        yield (Query(said(prompt, write(prompt.text, luck))),)

    return tries


def said(prompt: Prompt, text: str) -> Messages:
    """The prompt's messages with other words in the place of what the user says last."""
    at = max(i for i, message in enumerate(prompt.messages) if message.get("role") == "user")
    return (*prompt.messages[:at], {**prompt.messages[at], "content": text}, *prompt.messages[at + 1 :])
