"""Instructions that a text can be checked against, of IFEval's kinds (Zhou et al., arXiv 2311.07911), by our own checks.

Of the set's 25 kinds one is left out, the language of a response, for it needs a detector. A kind that is not known is
counted as not checked, never as followed. Sentences are split by a plain rule, so that their number may differ from other
readings by one or two.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Keywords = Mapping[str, Any]
_CHOICES = ("my answer is yes.", "my answer is no.", "my answer is maybe.")
_DIVIDER = re.compile(r"\n?^[ \t]*\*\*\*[ \t]*$\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Tally:
    """The kinds of a prompt's instructions that a response followed, broke, and that could not be checked."""

    followed: tuple[str, ...]
    broken: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def right(self) -> bool | None:
        """Whether all were followed; None when none was broken but some could not be checked."""
        if self.broken:
            return False
        return None if self.unchecked or not self.followed else True


def followed(response: str, instructions: Sequence[Mapping[str, Any]]) -> Tally:
    """Checks a response against instructions, each {"id": kind, ...its keywords}."""
    kept: list[str] = []
    broken: list[str] = []
    unchecked: list[str] = []
    for instruction in instructions:
        kind = str(instruction["id"])
        test = KINDS.get(kind)
        try:
            into = unchecked if test is None else kept if response.strip() and test(response, instruction) else broken
        except (KeyError, TypeError, ValueError):  # keywords that are missing or of no use: an instruction nobody can check
            into = unchecked
        into.append(kind)
    return Tally(tuple(kept), tuple(broken), tuple(unchecked))


def related(count: int, relation: str, bound: int) -> bool:
    """The two relations of the set: 'less than' and 'at least'."""
    if relation not in ("less than", "at least"):
        raise ValueError(relation)
    return count < bound if relation == "less than" else count >= bound


def words(text: str) -> list[str]:
    """Runs of letters, digits and apostrophes."""
    return re.findall(r"\w+(?:['’]\w+)*", text)


def sentences(text: str) -> list[str]:
    """Pieces that end in . ! or ? before a space, or with a line."""
    pieces = re.split(r"(?<=[.!?])[\"'”’)]*\s+|\n+", text.strip())
    return [piece for piece in pieces if re.search(r"\w", piece)]


def _has(text: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE))


def _paragraphs(text: str) -> int:
    parts = [part.strip() for part in _DIVIDER.split(text)]
    inner = parts[1:-1] if len(parts) > 1 else []
    return 0 if not all(inner) else sum(bool(part) for part in parts)


def _nth_paragraph(text: str, k: Keywords) -> bool:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    if len(parts) != int(k["num_paragraphs"]) or int(k["nth_paragraph"]) > len(parts):
        return False
    first = words(parts[int(k["nth_paragraph"]) - 1])[:1]
    return [word.casefold() for word in first] == [str(k["first_word"]).casefold()]


def _highlights(text: str) -> int:
    doubles = re.findall(r"\*\*[^*\n]+\*\*", text)
    singles = re.findall(r"(?<!\*)\*[^*\n]+\*(?!\*)", text)
    return sum(bool(piece.strip("* ")) for piece in (*doubles, *singles))


def _json(text: str) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def _two(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return len(answers) == 2 and all(parts[1:-1]) and answers[0] != answers[1]


def _ends(text: str, phrase: str) -> bool:
    return text.strip().strip("\"'“”").casefold().endswith(phrase.strip().casefold())


def _postscript(text: str, marker: str) -> bool:
    letters = re.sub(r"[^a-z]", "", marker.casefold())
    return bool(re.search(r"(?:^|\s)" + r"\.?\s?".join(letters) + r"(?:\.|:|\b)", text, re.IGNORECASE))


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] in '"“' and bare[-1] in '"”'


def _shouted(text: str) -> int:
    return sum(word.isupper() for word in words(text))


def _sections(text: str, k: Keywords) -> bool:
    found = re.findall(rf"^\W*{re.escape(str(k['section_spliter']))}\s+\d+", text, re.MULTILINE | re.IGNORECASE)
    return len(found) >= int(k["num_sections"])


KINDS: Mapping[str, Callable[[str, Keywords], bool]] = {
    "keywords:existence": lambda t, k: all(_has(t, word) for word in k["keywords"]),
    "keywords:frequency": lambda t, k: related(_has(t, k["keyword"]), k["relation"], int(k["frequency"])),
    "keywords:forbidden_words": lambda t, k: not any(_has(t, word) for word in k["forbidden_words"]),
    "keywords:letter_frequency": lambda t, k: related(
        t.casefold().count(k["letter"].casefold()), k["let_relation"], int(k["let_frequency"])
    ),
    "length_constraints:number_sentences": lambda t, k: related(len(sentences(t)), k["relation"], int(k["num_sentences"])),
    "length_constraints:number_words": lambda t, k: related(len(words(t)), k["relation"], int(k["num_words"])),
    "length_constraints:number_paragraphs": lambda t, k: _paragraphs(t) == int(k["num_paragraphs"]),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda t, k: len(re.findall(r"\[[^\[\]]+\]", t)) >= int(k["num_placeholders"]),
    "detectable_content:postscript": lambda t, k: _postscript(t, k["postscript_marker"]),
    "detectable_format:number_bullet_lists": lambda t, k: (
        len(re.findall(r"^\s*(?:\*(?!\*)|-)\s+\S", t, re.MULTILINE)) == int(k["num_bullets"])
    ),
    "detectable_format:constrained_response": lambda t, k: any(choice in t.casefold() for choice in _CHOICES),
    "detectable_format:number_highlighted_sections": lambda t, k: _highlights(t) >= int(k["num_highlights"]),
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": lambda t, k: _json(t),
    "detectable_format:title": lambda t, k: bool(re.search(r"<<[^<>\n]*\w[^<>\n]*>>", t)),
    "combination:two_responses": lambda t, k: _two(t),
    "combination:repeat_prompt": lambda t, k: t.strip().casefold().startswith(k["prompt_to_repeat"].strip().casefold()),
    "startend:end_checker": lambda t, k: _ends(t, k["end_phrase"]),
    "startend:quotation": lambda t, k: _quoted(t),
    "change_case:capital_word_frequency": lambda t, k: related(
        _shouted(t), k["capital_relation"], int(k["capital_frequency"])
    ),
    "change_case:english_capital": lambda t, k: t.isupper(),
    "change_case:english_lowercase": lambda t, k: t.islower(),
    "punctuation:no_comma": lambda t, k: "," not in t,
}
"""(response, keywords) -> whether it was followed; keyword names are the set's own."""
