"""The fenced blocks of the pages: what each is, whether a test runs it, and if not why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```(\w*)\s*$")
MARK = re.compile(r"^ *<!-- (not run: (?P<reason>.+)|(?P<prints>prints)) -->$")
"""The comment before a block: why it is not run, or that the block before it prints this one."""
COMMANDS, DATA = ("bash", "python"), ("json", "toml", "text")
"""Languages of blocks that are run, and of blocks that are read."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. line: of its first fence, from 1; reason: why it is not run; prints: whether the one before prints
    it."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None
    prints: bool = False

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page written for people, the repository's front pages first."""
    front = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    return [*front, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "deploy/README.md", ROOT / "models/sirl-tiny/README.md"]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of one page, in order."""
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    lines = page.read_text("utf-8").splitlines()
    mark: re.Match[str] | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        if fence := FENCE.match(line):
            indent, start = fence[1], number
            number += 1
            inside = []
            while lines[number] != f"{indent}```":
                inside.append(lines[number].removeprefix(indent))
                number += 1
            reason, prints = (mark["reason"], bool(mark["prints"])) if mark else (None, False)
            yield Block(name, start + 1, fence[2], "\n".join(inside) + "\n", reason, prints)
            mark = None
        elif line.strip():
            mark = MARK.match(line)
        number += 1


def all_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]
