"""What redaction finds, and what it takes for something it is not, in five languages: docs/evidence/attacks.md.

    python -m benchmarks.redaction [--presidio en=en_core_web_lg,...] [--prompts FILE]

With --prompts, the hits in a JSONL file of ordinary prompts (field `prompt`), each in its surroundings, to be read and
judged. Else over benchmarks/redaction.jsonl: invented messages as people write them, each with the values that ought to go,
and as many full of figures in which there is nothing to find. The rules were written without a look at it, and mended since
by what they missed and took wrongly there (docs/evidence/attacks.md). Recall: values of which nothing is left; precision: of
what was replaced, what overlaps with a value.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.statistics import wilson
from online.events.recognisers import Finder, spans
from online.events.redactor import presidio

PATH = Path(__file__).with_suffix(".jsonl")
LANGUAGES = ("en", "de", "fr", "es", "it")
KINDS = ("mail", "phone", "card", "key", "name")


@dataclass(frozen=True, slots=True)
class Message:
    """A text and the (value, kind) pairs in it."""

    language: str
    text: str
    values: tuple[tuple[str, str], ...]

    def places(self) -> Iterator[tuple[int, int, str]]:
        """Where each value is, wherever it is."""
        for value, kind in self.values:
            at = self.text.find(value)
            while at >= 0:
                yield at, at + len(value), kind
                at = self.text.find(value, at + len(value))


def messages() -> list[Message]:
    rows = (json.loads(line) for line in PATH.read_text("utf-8").splitlines())
    return [Message(row["language"], row["text"], tuple((value, kind) for value, kind in row["values"])) for row in rows]


@dataclass
class Count:
    """Values there were and values of which nothing is left; replacements there were and those that overlap with a value."""

    values: int = 0
    gone: int = 0
    replaced: int = 0
    right: int = 0

    def add(self, message: Message, kind: str, find: Finder) -> None:
        """Of one kind, "" for all of them: what is replaced is held against values of any kind."""
        found, places = list(find(message.text)), list(message.places())
        for start, end, what in places:
            if kind in (what, ""):
                covered = {at for a, b, _ in found for at in range(max(a, start), min(b, end))}
                self.values += 1
                self.gone += all(at in covered or not message.text[at].isalnum() for at in range(start, end))
        if not kind:
            self.replaced += len(found)
            self.right += sum(any(a < end and start < b for start, end, _ in places) for a, b, _ in found)


def measure(find: Finder) -> dict[tuple[str, str], Count]:
    """By language and kind, "" for all of either."""
    counts: dict[tuple[str, str], Count] = {(lang, kind): Count() for lang in (*LANGUAGES, "") for kind in (*KINDS, "")}
    for message in messages():
        for kind in (*KINDS, ""):
            counts[message.language, kind].add(message, kind, find)
            counts["", kind].add(message, kind, find)
    return counts


def table(counts: dict[tuple[str, str], Count]) -> str:
    """Recall, a row a language, and precision over all kinds; in percent, over all languages with their intervals."""
    lines = ["| | " + " | ".join(KINDS) + " | precision |", "| --- |" + " --- |" * (len(KINDS) + 1)]
    for language in (*LANGUAGES, ""):
        shares = [(counts[language, kind].gone, counts[language, kind].values) for kind in KINDS]
        shares.append((counts[language, ""].right, counts[language, ""].replaced))
        cells = []
        for good, of in shares:
            figure = wilson(good, of)
            bounds = "" if language else f" [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"
            cells.append(f"{100 * figure.estimate:.0f}{bounds} ({of})")
        lines.append(f"| {language or 'all'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hits(path: Path, find: Finder) -> Iterator[str]:
    """Each hit in a file of prompts with what stands around it, and at the end how many there are in how many."""
    kinds: Counter[str] = Counter()
    prompts = [json.loads(line)["prompt"] for line in path.read_text("utf-8").splitlines()]
    touched = 0
    for prompt in prompts:
        found = list(find(prompt))
        touched += bool(found)
        for start, end, kind in found:
            kinds[kind] += 1
            yield f"{kind:<5} {prompt[max(0, start - 40) : start]!r} [{prompt[start:end]!r}] {prompt[end : end + 25]!r}"
    yield f"{path.name}: {len(prompts)} prompts, {touched} with hits: {dict(kinds)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="recall and precision of redaction in five languages")
    parser.add_argument("--presidio", default="", help="spaCy pipelines: en=en_core_web_lg,de=...")
    parser.add_argument("--prompts", type=Path, help="a JSONL file of ordinary prompts, of which the hits are shown")
    args = parser.parse_args()
    find = presidio(dict(pair.split("=", 1) for pair in args.presidio.split(","))) if args.presidio else spans
    for line in hits(args.prompts, find) if args.prompts else [table(measure(find))]:
        print(line)


if __name__ == "__main__":
    main()
