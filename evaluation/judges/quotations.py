"""Quotations and code in an answer: what stands there is not what the answer does."""

import re

CODE = "\x00"
"""Stands for a block of code."""
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LOOKS_CODED = re.compile(r"[{}=;<>]|\(\)|^\s*(?:def|import|class|from|#) ?", re.MULTILINE)
_QUOTED = re.compile(
    r"\"[^\"\n]*(?:\"|\Z)|“[^”\n]*(?:”|\Z)|«[^»\n]*(?:»|\Z)|„[^“\n]*(?:“|\Z)|「[^」\n]*(?:」|\Z)"
    r"|(?<!\w)'(?=\w)(?:[^'\n]|(?<=\w)'(?=\w)){3,}'(?!\w)|^>.*$",
    re.MULTILINE,
)
_LABEL = re.compile(r"\A[^\w\n\"“«]*(?:[\w .^|#-]{1,30}:)?\s*(?=[\"“«'>])")
"""What may stand before an answer that is all one quotation: a speaker's name."""


def unquoted(text: str) -> str:
    """A text with CODE for its blocks and without what it quotes. One that is all a single quotation, or a single block in
    which there is no code, says what stands in it."""
    coded = _FENCED.sub(CODE, text)
    if not re.search(r"\w", coded):
        inside = re.sub(r"```\w*", "", text)
        coded = CODE if _LOOKS_CODED.search(inside) else inside
    coded = re.sub(r"`[^`\n]+`", "`", coded)
    label = _LABEL.match(coded)
    whole = label and (found := _QUOTED.match(coded, label.end())) and not re.search(r"\w", coded[found.end() :])
    return coded if whole else _QUOTED.sub('"', coded)
