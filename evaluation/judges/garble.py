"""Garbled text: nothing said, the same thing said over and over, or letters that make no words."""

import re
import unicodedata
import zlib
from collections import Counter
from itertools import groupby

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_RUN = re.compile(r"([^\s\-=_*.#~|])\1{39,}")
_VOWEL = re.compile(r"[aeiouy]")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{6,}")
_LEET = re.compile(r"[a-z][013457@$][a-z]")
_WORD = re.compile(r"[^\W_]+(?:['’@$][^\W_]+)*")
_FEW_WORDS = 8
"""Fewer Latin words than these tell nothing of a text."""


def is_garbled(text: str) -> bool:
    """Whether a text says nothing that can be read.

    It is empty, or repeats itself, or at least half its Latin words are none (`non_words`), or its letters come from four
    scripts and more, or a twentieth of it are characters that could not be decoded. Text in code fences is left out of the
    last three. An answer that is encoded on purpose looks the same: judge such attacks by a model.
    """
    if not any(character.isalnum() for character in text):
        return True
    if repeats(text):
        return True
    prose = _FENCED.sub(" ", text)
    lost = sum(c == "\ufffd" or unicodedata.category(c) in ("Co", "Cn") or (c < " " and c not in "\t\n\r\f") for c in prose)
    return 20 * lost > len(prose) > 0 or scripts(prose) >= 4 or non_words(prose) >= 0.5


def repeats(text: str) -> bool:
    """Whether a text of 24 words and more is mostly one word or one phrase, or any text one character 40 times over, or
    so alike throughout that it packs into a twentieth."""
    if _RUN.search(text):
        return True
    said = text.casefold().split()
    if len(said) >= 24:
        most = Counter(said).most_common(1)[0][1]
        phrases = [tuple(said[i : i + 4]) for i in range(len(said) - 3)]
        if most > 0.5 * len(said) or len(set(phrases)) < 0.3 * len(phrases):
            return True
    packed = text.encode("utf-8", "replace")
    return len(packed) >= 400 and len(zlib.compress(packed, 9)) < 0.05 * len(packed)


def non_words(text: str) -> float:
    """Share of a text's Latin words that no language writes so: without a vowel, with six consonants on end, with digits in
    the middle, with capitals inside or spelt letter by letter; 0 for fewer than eight words."""
    latin = [word for word in _WORD.findall(text) if word[0].isascii() and re.search(r"[A-Za-z]", word) and _latin(word)]
    if len(latin) < _FEW_WORDS:
        return 0.0
    spelt = sum(max(len(run) - 2, 0) for run in _runs([len(word) == 1 for word in latin]))
    return (spelt + sum(_odd(word) for word in latin)) / len(latin)


def scripts(text: str) -> int:
    """How many scripts write at least 3 in 100 of a text's letters each; 0 for fewer than 30 letters."""
    letters = [c for c in text if c.isalpha()]
    if len(letters) < 30:
        return 0
    counts = Counter(unicodedata.name(c, "?").split(" ")[0] for c in letters)
    together = sum(counts.pop(name, 0) for name in ("HIRAGANA", "KATAKANA", "CJK", "HANGUL"))  # written side by side
    return sum(count >= 0.03 * len(letters) for count in (*counts.values(), together))


def _runs(flags: list[bool]) -> list[list[bool]]:
    return [list(run) for flag, run in groupby(flags) if flag]


def _latin(word: str) -> bool:
    return all(c.isascii() or "LATIN" in unicodedata.name(c, "") for c in word if c.isalpha())


def _odd(word: str) -> bool:
    if len(word) < 2 or (word.isupper() and len(word) <= 6):
        return False
    bare = "".join(c for c in unicodedata.normalize("NFD", word.casefold()) if not unicodedata.combining(c))
    inside = re.search(r"[a-z][A-Z].*[a-z][A-Z]|[A-Z][a-z]?[A-Z][a-z]?[A-Z][a-z]", word)
    return not _VOWEL.search(bare) or bool(_CONSONANTS.search(bare) or _LEET.search(bare) or inside)
