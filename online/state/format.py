"""Format numbers: the field `format` of a JSON file that one sirl-guard writes and another one reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guard.errors import SirlError


class FormatError(SirlError):
    """A newer sirl-guard wrote it, and this one must neither read nor replace it."""


def require(document: Mapping[str, Any], known: int, what: object) -> None:
    """Checks that a document is of a format up to `known`; `what` names it at the beginning of the message.

    A document without the field was written before formats had numbers. It is of format 0, which all readers know.

    Raises:
        FormatError: its format is a later one.
        ValueError: its `format` is no number of a format.
    """
    found = document.get("format", 0)
    if type(found) is not int or found < 0:
        raise ValueError(f"its format is {found!r}, which is no number of a format")
    if found > known:
        raise FormatError(newer(what, found, known))


def newer(what: object, found: int, known: int) -> str:
    """The sentence for what a newer sirl-guard wrote."""
    return f"{what} was written by a newer sirl-guard (format {found}; this one reads up to {known}): upgrade this one."
