"""Answers that are right or wrong by what they say last: exact text, a number, or mathematics in a box."""

import re
import unicodedata
from fractions import Fraction

_NUMBER = re.compile(
    r"(?<![\w.])[-−]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+(?![\d/]))?",
)
_SAID = re.compile(r"(?:####|\banswer[*_]*\s*(?:is\b|[:=]))\s*(.+)", re.IGNORECASE)
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=\d)(?:[a-z]+(?:\^\{?\d\}?)?)+$")
_SHORT_FRACTION = re.compile(r"\\frac(?:(\w)(\w)|(\w)\{([^{}]+)\}|\{([^{}]+)\}(\w))")
_FRACTION = re.compile(r"(-?)\\frac\{(-?[\d.]+)\}\{(-?[\d.]+)\}")
_DROPPED = ("\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\$", "$", "\\%", "%", "^\\circ", "^{\\circ}", "°", "~")


def matches(response: str, answer: str) -> bool:
    """Whether a response gives this answer: a number among numbers, or else the same words alone, last, or after 'answer:'.

    Case, spaces, markup and the full stop do not count.
    """
    number = as_number(answer)
    if number is not None:
        return last_number(response) == number
    wanted = _plain(answer)
    lines = [line for line in response.splitlines() if line.strip()]
    said = _SAID.findall(response)
    return bool(wanted) and wanted in {_plain(text) for text in (response, *lines[-1:], *said[-1:])}


def stated(response: str) -> str | None:
    """What stands after the last 'answer is' or its like, to the end of its line."""
    found = _SAID.findall(response)
    return found[-1] if found else None


def last_number(text: str) -> Fraction | None:
    """The number a text ends on, as GSM8K's are read (arXiv 2110.14168): after its last '####', in its last box, after its
    last 'answer is', or else the last number of all. None without any."""
    marked = text.rsplit("####", 1)[1] if "####" in text else None
    for part in (marked, boxed(text)):
        if part is not None and (found := _NUMBER.search(part.replace("$", ""))):
            return as_number(found[0])
    said = [found for line in _SAID.findall(text) if (found := _NUMBER.search(line.rsplit("=", 1)[-1]))]
    if said:
        return as_number(said[-1][0])
    numbers = _NUMBER.findall(text)
    return as_number(numbers[-1]) if numbers else None


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{...} or \fbox{...}, braces balanced; None without one that closes."""
    at = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if at < 0:
        return None
    start = text.find("{", at)
    if start < 0 or text[at:start].strip() not in ("\\boxed", "\\fbox"):
        bare = re.match(r"\\(?:boxed|fbox)\s+([^\s$]+)", text[at:])
        return bare[1] if bare else None
    depth = 0
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + 1 : end].strip()
    return None


def same_maths(ours: str, theirs: str) -> bool:
    """Whether two answers are written alike once light differences of LaTeX are gone, or are the same number.

    No algebra is done: x + 1 and 1 + x differ.
    """
    one, other = _normal(ours), _normal(theirs)
    if one == other:
        return bool(one)
    first, second = as_number(_unfraction(one)), as_number(_unfraction(other))
    return first is not None and first == second


def as_number(text: str) -> Fraction | None:
    """A text that is one number and nothing else, with thousands, a fraction or money's sign; None for anything else."""
    bare = text.strip().strip("$€£*_`").rstrip("%.").replace("−", "-").replace(",", "").replace(" ", "")
    try:
        return Fraction(bare)
    except (ValueError, ZeroDivisionError):
        return None


def _plain(text: str) -> str:
    words = re.sub(r"[*_`\"“”]", "", unicodedata.normalize("NFKC", text)).split()
    return " ".join(words).casefold().rstrip(".!")


def _normal(text: str) -> str:
    bare = _TEXT.sub(r"\1", text.strip().rstrip("."))
    for word in _DROPPED:
        bare = bare.replace(word, "")
    bare = re.sub(r"\\[dt]frac", r"\\frac", bare)
    bare = re.sub(r"\s+", "", bare)
    bare = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", bare)
    bare = _SHORT_FRACTION.sub(
        lambda m: f"\\frac{{{m[1] or m[3] or m[5]}}}{{{m[2] or m[4] or m[6]}}}",
        bare,
    )
    bare = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", bare)
    bare = re.sub(r"^[a-zA-Z](?:\\in|=)", "", bare)
    bare = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", bare) if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", bare) else bare
    bare = re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", bare)
    return _UNIT.sub("", bare) or bare


def _unfraction(text: str) -> str:
    found = _FRACTION.fullmatch(text)
    if not found:
        return text
    try:
        return f"{found[1]}{Fraction(found[2]) / Fraction(found[3])}".replace("--", "")
    except ZeroDivisionError:
        return text
