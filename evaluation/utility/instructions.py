"""Instructions that a text can be checked against, of IFEval's kinds (Zhou et al., arXiv 2311.07911), by our own checks.

They read a text as the set's strict accuracy does, its oddities included, so that figures compare with published ones: a
keyword counts inside a longer word, a title may be any line in << >>, `**bold**` at the head of a `*` bullet counts twice.
Two of its tokenizers are replaced by plain rules, of sentences and of words in capitals, and may differ by a few in odd
texts. The language of a response is told by `langdetect` (the extra `eval`); without it that kind is not known, and the two
of case look at case alone. A kind that is not known is counted as not checked, never as followed.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

try:
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0  # it draws lots
except ImportError:
    detect = None

Keywords = Mapping[str, Any]
_CHOICES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_SHORT = re.compile(
    r"(?:^|[\s(\"'])(?:(?:[A-Z]\.)*[A-HJ-Z]|Mrs?|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|vs|etc|e\.g|i\.e|[ap]\.m|approx)\.$"
)
"""What ends with a full stop and no sentence."""
_DETECTING = Lock()
"""One at a time: the detector reads its profiles when it is first asked."""


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


def sentences(text: str) -> list[str]:
    """Pieces that end in . ! or ? before a space and no small letter, but for abbreviations and initials. A line's end ends
    none, and the number before an item of a list is one."""
    found = [""]
    for piece in re.split(r"(?<=[.!?])(?=[\"'”’)]*\s+[^\sa-z])", text.strip()):
        if re.search(r"[.!?]$", found[-1]) and not _SHORT.search(found[-1]):
            found.append("")
        found[-1] += piece
    return [piece.strip() for piece in found if re.search(r"\w", piece)]


def shouted(text: str) -> int:
    """Words in capitals. Hyphens and dots hold a word together; a contraction is two words."""
    count = 0
    for word in re.findall(r"\w+(?:[-./'’]\w+)*", text):
        parts = re.fullmatch(r"(.+?)(n['’]t|['’]\w+)", word, re.IGNORECASE)
        count += sum(part.isupper() for part in (parts.groups() if parts else (word,)))
    return count


def _language(text: str, language: str) -> bool:
    try:
        with _DETECTING:
            return detect is None or detect(text) == language
    except LangDetectException:  # nothing in it that tells
        return True


def _has(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


def _occurs(text: str, keyword: str) -> int:
    return text.casefold().count(keyword.casefold())


def _paragraphs(text: str) -> int:
    """Between dividers of three stars; 0 where one in the middle is empty."""
    first, *inner = (bool(part.strip()) for part in text.split("***"))
    last = inner.pop() if inner else False
    return first + len(inner) + last if all(inner) else 0


def _nth_paragraph(text: str, k: Keywords) -> bool:
    parts, nth = [part.strip() for part in text.split("\n\n")], int(k["nth_paragraph"])
    if sum(map(bool, parts)) != int(k["num_paragraphs"]) or not 0 < nth <= len(parts):
        return False
    first = parts[nth - 1].split(maxsplit=1)[:1] or [""]
    word = re.split(r"[.,?!'\"]", first[0].lstrip("'").lstrip('"'))[0]
    return word.casefold() == str(k["first_word"]).casefold()


def _highlights(text: str) -> int:
    return sum(
        bool(piece.strip()) for stars in (1, 2) for piece in re.findall(rf"\*{{{stars}}}([^*\n]*)\*{{{stars}}}", text)
    )


def _json(text: str) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _two(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    answers = [part for part in parts if part]
    return len(answers) == 2 and all(parts[1:-1]) and answers[0] != answers[1]


def _ends(text: str, phrase: str) -> bool:
    return text.strip().strip('"').casefold().endswith(phrase.strip().casefold())


def _postscript(text: str, marker: str) -> bool:
    letters = re.findall(r"[a-z]", marker.casefold())
    pattern = r"\.\s?".join(letters) + (r"\." if marker.endswith(".") else "")
    return re.search(pattern, text, re.IGNORECASE) is not None


def _quoted(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _sections(text: str, k: Keywords) -> bool:
    return len(re.findall(rf"{re.escape(str(k['section_spliter']))}\s?\d+", text)) >= int(k["num_sections"])


def _titled(text: str) -> bool:
    return any(title.strip("<> \t") for title in re.findall(r"<<([^\n]+)>>", text))


KINDS: Mapping[str, Callable[[str, Keywords], bool]] = {
    "keywords:existence": lambda t, k: all(_occurs(t, word) for word in k["keywords"]),
    "keywords:frequency": lambda t, k: related(_occurs(t, k["keyword"]), k["relation"], int(k["frequency"])),
    "keywords:forbidden_words": lambda t, k: not any(_has(t, word) for word in k["forbidden_words"]),
    "keywords:letter_frequency": lambda t, k: related(
        t.casefold().count(k["letter"].casefold()), k["let_relation"], int(k["let_frequency"])
    ),
    "length_constraints:number_sentences": lambda t, k: related(len(sentences(t)), k["relation"], int(k["num_sentences"])),
    "length_constraints:number_words": lambda t, k: related(len(re.findall(r"\w+", t)), k["relation"], int(k["num_words"])),
    "length_constraints:number_paragraphs": lambda t, k: _paragraphs(t) == int(k["num_paragraphs"]),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda t, k: len(re.findall(r"\[.*?\]", t)) >= int(k["num_placeholders"]),
    "detectable_content:postscript": lambda t, k: _postscript(t, k["postscript_marker"]),
    "detectable_format:number_bullet_lists": lambda t, k: (
        len(re.findall(r"^\s*(?:\*[^*]|-)", t, re.MULTILINE)) == int(k["num_bullets"])
    ),
    "detectable_format:constrained_response": lambda t, k: any(choice in t for choice in _CHOICES),
    "detectable_format:number_highlighted_sections": lambda t, k: _highlights(t) >= int(k["num_highlights"]),
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": lambda t, k: _json(t),
    "detectable_format:title": lambda t, k: _titled(t),
    "combination:two_responses": lambda t, k: _two(t),
    "combination:repeat_prompt": lambda t, k: t.strip().casefold().startswith(k["prompt_to_repeat"].strip().casefold()),
    "startend:end_checker": lambda t, k: _ends(t, k["end_phrase"]),
    "startend:quotation": lambda t, k: _quoted(t),
    "change_case:capital_word_frequency": lambda t, k: related(
        shouted(t), k["capital_relation"], int(k["capital_frequency"])
    ),
    "change_case:english_capital": lambda t, k: t.isupper() and _language(t, "en"),
    "change_case:english_lowercase": lambda t, k: t.islower() and _language(t, "en"),
    "punctuation:no_comma": lambda t, k: "," not in t,
    **({"language:response_language": lambda t, k: _language(t, k["language"])} if detect else {}),
}
"""(response, keywords) -> whether it was followed; keyword names are the set's own."""
