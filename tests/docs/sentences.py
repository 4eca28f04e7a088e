"""The sentences of a page's prose."""

from __future__ import annotations

import re

BEGINS = re.compile(r"^\s*([-*]|\d+\.)\s")
"""An item of a list."""


def sentences(page: str) -> list[str]:
    """Sentences outside code, tables and headings; a colon or a semicolon ends one as well."""
    page = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    page = re.sub(r"^ *```.*?^ *```$", "", page, flags=re.DOTALL | re.MULTILINE)
    paragraphs: list[list[str]] = [[]]
    for line in page.splitlines():
        if not line.strip() or line.startswith(("|", "#")):
            paragraphs.append([])
        elif BEGINS.match(line):
            paragraphs.append([BEGINS.sub("", line)])
        else:
            paragraphs[-1].append(line.strip())
    found = []
    for paragraph in paragraphs:
        text = re.sub(r"`[^`]*`", "code", " ".join(paragraph))
        text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("*", "")
        found += [one.strip() for one in re.split(r"(?<=[.!?:;])\)?\s+(?=\S)", text) if one.strip()]
    return found


def words(sentence: str) -> int:
    """Words with a letter in them: figures are not counted."""
    return len([word for word in sentence.split() if re.search(r"[A-Za-z]", word)])
