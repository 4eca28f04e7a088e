"""Cases and attempts: what is asked, how each ended, and the file that keeps the attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from evaluation.attacks import ATTACKS, Attack
from evaluation.judge import Outcome
from evaluation.suite import Message, Prompt

DIRECT = ATTACKS["direct"]


@dataclass(frozen=True, slots=True)
class Case:
    """One attack on one prompt; a seed is one repetition."""

    attack: Attack
    prompt: Prompt
    seed: int = 0

    @property
    def key(self) -> str:
        """Names it for good: another prompt of the same id is another case."""
        said = sha256(json.dumps((*self.prompt.messages, *self.prompt.turns)).encode()).hexdigest()[:8]
        return f"{self.attack.name}/{self.seed}/{self.prompt.id}/{said}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a case.

    outcome: the most telling of all answers (compliance where any was one); score: of that answer, 0 to 1 by the judge;
    queries: to the target; tokens: of the target's prompts and responses, then of those of other models; guard: our guard's
    report of the answer, where there was one; messages, response: the telling try itself; talk: all that was said where the
    user went on; error: why there is no outcome; filtered: the outcome is a refusal by a content filter; undecided: there is
    no outcome because the target had said nothing yet when its tokens were spent, or called a tool.
    """

    key: str
    attack: str
    prompt: str
    kind: str
    seed: int
    outcome: Outcome | None
    score: float
    queries: int
    tokens: tuple[int, int, int, int]
    seconds: float
    messages: Sequence[Message] = ()
    response: str = ""
    group: str | None = None
    family: str | None = None
    cluster: str | None = None
    guard: Mapping[str, Any] | None = None
    error: str | None = None
    talk: Sequence[Message] = ()
    filtered: bool = False
    undecided: bool = False

    @property
    def alike(self) -> str:
        """The same for attempts at what is alike: a cluster, or else one prompt."""
        return self.cluster or self.prompt

    @classmethod
    def parse(cls, line: str) -> Attempt:
        """From a line of the file. Raises ValueError, TypeError or KeyError where it is none."""
        row = json.loads(line)
        row["outcome"] = None if row["outcome"] is None else Outcome(row["outcome"])
        return cls(**row | {"tokens": tuple(row["tokens"])})


def as_asked(prompt: Prompt, messages: Sequence[Message]) -> Prompt:
    """The prompt as it was asked with these messages: in a talk that goes on, what the user said last counts."""
    return replace(prompt, messages=tuple(messages)) if prompt.turns else prompt


def said(prompt: Prompt, attempt: Attempt) -> Iterator[tuple[Prompt, str]]:
    """What was asked and answered: the telling try, or each turn of a talk."""
    answers = [at for at in range(len(prompt.messages), len(attempt.talk)) if attempt.talk[at]["role"] == "assistant"]
    for at in answers:
        yield as_asked(prompt, attempt.talk[:at]), attempt.talk[at]["content"]
    if not answers:
        yield prompt, attempt.response


def cases(prompts: Iterable[Prompt], attacks: Iterable[Attack], seeds: Iterable[int]) -> list[Case]:
    """Every attack on the bare harmful prompts; harmful ones that come in a wrapper, and all harmless ones, as they are.

    In an order that leaves no attack for the end: a campaign that runs out of time has asked a fair part of each.
    """
    listed = list(attacks)
    every = [
        Case(attack, prompt, seed)
        for seed in seeds
        for prompt in prompts
        for attack in (listed if prompt.kind == "harmful" and not prompt.family else [DIRECT])
    ]
    Random("order").shuffle(every)
    return every


def drawn(prompts: Sequence[Prompt], limit: int, seed: int = 0) -> list[Prompt]:
    """`limit` prompts of each class at most, by lot: harmful ones bare and in wrappers, harmless ones by class, tasks."""
    counts: Counter[str] = Counter()
    kept = set()
    for prompt in Random(f"limit {seed}").sample(list(prompts), len(prompts)):
        group = prompt.over_refusal_class or prompt.kind + (" wrapped" if prompt.family else "")
        counts[group] += 1
        if counts[group] <= limit:
            kept.add(prompt.id)
    return [prompt for prompt in prompts if prompt.id in kept]


def read(record: Path) -> dict[str, Attempt]:
    """The attempts of a file by their key, each case's last one."""

    def lines() -> Iterator[str]:
        if record.exists():
            with record.open(encoding="utf-8", errors="replace") as rows:
                yield from rows

    found: dict[str, Attempt] = {}
    for line in lines():
        try:
            attempt = Attempt.parse(line)
        except (ValueError, TypeError, KeyError):
            continue  # torn by a kill; it has no outcome and is asked again
        found[attempt.key] = attempt
    return found
