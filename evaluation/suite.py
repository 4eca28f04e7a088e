"""Suites: prompts with what is known about them, as JSON lines; the bundled ones and an operator's own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from guard.errors import SirlError

Kind = Literal["harmful", "benign", "borderline", "task"]
Novelty = Literal["seen", "base_only", "sirl_only", "never"]
OverRefusalClass = Literal["plain", "wrapped", "borderline"]
Message = dict[str, Any]

_TEXTS = ("id", "split", "family", "novelty", "topic", "action", "answer")


class SuiteError(SirlError, ValueError):
    """A suite that cannot be used; one sentence with file, line, cause and mend."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a suite. `novelty` is who has met its wrapper family before, `answer` a task's right answer.

    `check` is how a task's response is checked where the answer alone does not say (`evaluation.utility`). `turns`
    is what the user goes on to say, a turn each, when the one before was answered.
    """

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    split: str | None = None
    family: str | None = None
    novelty: Novelty | None = None
    topic: str | None = None
    new_topic: bool = False
    action: str | None = None
    answer: str | None = None
    check: Mapping[str, Any] | None = field(default=None, hash=False)
    turns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The last thing the user says."""
        return next((text_of(m["content"]) for m in reversed(self.messages) if m.get("role") == "user"), "")

    @property
    def over_refusal_class(self) -> OverRefusalClass | None:
        """The class in which a refusal of this prompt is an over-refusal; None for harmful prompts and tasks."""
        if self.kind == "borderline":
            return "borderline"
        if self.kind == "benign":
            return "wrapped" if self.family else "plain"
        return None

    @property
    def cluster(self) -> str:
        """What makes prompts alike beyond their kind: the action, or else the prompt itself."""
        return self.action or self.id


def text_of(content: Any) -> str:
    """The text of a message's content, which is text or parts of which some are."""
    if not isinstance(content, list):
        return str(content)
    return " ".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))


def load_suite(path: str | Path) -> list[Prompt]:
    """Prompts from JSON lines. Each needs `kind` and either `messages` or `prompt`; the other fields of `Prompt` are
    optional and further ones are left alone. Raises SuiteError (one sentence: file, line, cause, mend)."""
    prompts: list[Prompt] = []
    lines_of: dict[str, int] = {}
    for number, row in json_lines(path, "suite"):
        where = f"{path}, line {number}"
        prompt = from_row(row, where, f"{Path(path).stem}-{number}")
        if prompt.id in lines_of:
            raise SuiteError(f"{where} repeats the id {prompt.id!r} of line {lines_of[prompt.id]}: give each its own")
        lines_of[prompt.id] = number
        prompts.append(prompt)
    if not prompts:
        raise SuiteError(f"{path} holds no prompt: write one JSON object with 'kind' and 'prompt' on each line")
    return prompts


def json_lines(path: str | Path, what: str) -> Iterator[tuple[int, Any]]:
    """The decoded rows of a file with their line numbers, from 1; blank lines are passed over. `what` the file is, and its
    place, are in the SuiteError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except OSError as error:
        raise SuiteError(f"{path} cannot be read ({error.strerror}): name a file of JSON lines") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path} is not UTF-8 text: save the {what} as UTF-8 JSON lines") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                cause = getattr(error, "msg", error)
                raise SuiteError(
                    f"{path}, line {number} is not JSON ({cause}): write one JSON object on each line"
                ) from None


def from_row(row: Any, where: str = "the row", default_id: str = "row") -> Prompt:
    """One prompt from a decoded JSON line; `where` names it in the SuiteError."""
    if not isinstance(row, dict):
        raise SuiteError(f"{where} is not a JSON object: write one with the keys 'kind' and 'prompt'")
    if row.get("kind") not in get_args(Kind):
        raise SuiteError(f"{where} has the kind {row.get('kind')!r}: use one of {', '.join(get_args(Kind))}")
    for key in _TEXTS:
        if row.get(key) is not None and not isinstance(row[key], str):
            raise SuiteError(f"{where} has a {key!r} that is not text: quote it or leave it out")
    if row.get("novelty") not in (None, *get_args(Novelty)):
        raise SuiteError(f"{where} has the novelty {row['novelty']!r}: use one of {', '.join(get_args(Novelty))}")
    if not isinstance(row.get("new_topic", False), bool):
        raise SuiteError(f"{where} has a 'new_topic' that is not true or false: write one of them or leave it out")
    if row.get("check") is not None and not isinstance(row["check"], dict):
        raise SuiteError(f"{where} has a 'check' that is not an object: write one with the key 'kind' or leave it out")
    if row["kind"] == "task" and row.get("answer") is None and row.get("check") is None:
        raise SuiteError(f"{where} is a task without an 'answer' or a 'check': add the right answer as text")
    turns = row.get("turns") or []
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise SuiteError(f"{where} has 'turns' that are not a list of texts: write what the user says next, a text each")
    if turns and row["kind"] not in ("benign", "borderline"):
        raise SuiteError(f"{where} has 'turns' and is {row['kind']}: a talk that goes on is benign or borderline")
    fields = {key: row.get(key) for key in _TEXTS} | {"id": row.get("id") or default_id}
    return Prompt(
        kind=row["kind"],
        messages=_messages(row, where),
        new_topic=row.get("new_topic", False),
        check=row.get("check"),
        turns=tuple(turns),
        **cast(dict[str, Any], fields),
    )


def _messages(row: dict[str, Any], where: str) -> tuple[Message, ...]:
    messages = row.get("messages")
    if messages is None and isinstance(row.get("prompt"), str) and row["prompt"].strip():
        return ({"role": "user", "content": row["prompt"]},)
    if not isinstance(messages, list) or not messages:
        raise SuiteError(f"{where} has neither 'messages' nor 'prompt': add the prompt as text or as chat messages")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            raise SuiteError(f"{where} has a message without 'role' and 'content': give every message both")
    if not any(message["role"] == "user" for message in messages):
        raise SuiteError(f"{where} has no message of the user's: add what is asked")
    return tuple(messages)
