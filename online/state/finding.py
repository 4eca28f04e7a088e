"""One line of a check, as `sirl doctor` prints them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check: what was looked at, how it is, and the mend where it is not sound."""

    level: Literal["ok", "warning", "error"]
    subject: str
    message: str
