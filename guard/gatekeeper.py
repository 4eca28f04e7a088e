"""One response under enforcement: what is held back, what is let go, what is acted on.

HOLD        the decision is not known yet: deliver nothing
RELEASE     deliver what was held, and go on token by token
TOUCH       act: nothing of what is held, and nothing later, is delivered
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from guard.record import ResponseRecord
from guard.rule import Rule


class Move(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    TOUCH = "touch"


@dataclass(slots=True)
class Gatekeeper:
    """Applies a rule to a growing record. The hold lasts until the response leaves the opening tree: at most as many tokens
    as the longest opening has, mostly one. A response that opened as a refusal is never touched."""

    rule: Rule
    released: bool = False

    def move(self, record: ResponseRecord, *, ended: bool) -> Move:
        """What to do now that the record has grown. Raises ArithmeticError when the probe is silent where it matters."""
        if not self.released:
            if not (record.decided or ended):
                return Move.HOLD
            if not record.opening_matched and self.rule.touches_opening(record.signals):
                return Move.TOUCH
            self.released = True
        elif not record.opening_matched and self.rule.touches_running(record.signals):
            return Move.TOUCH
        return Move.RELEASE
