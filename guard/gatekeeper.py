"""The gatekeeper of one response under enforcement: it holds back, lets go, or acts.

HOLD        the decision is not known yet: deliver nothing
RELEASE     deliver what was held, and go on token by token
TOUCH       act: nothing of what is held, and nothing later, is delivered
REDRAW      an over-refusal: hold on to it while another answer is drawn, which may take its place
EMPTY       deliver the end alone: a held reasoning that never came to an answer cannot be judged
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from guard.beginnings import Weighing
from guard.record import ResponseRecord
from guard.rule import Rule


class Move(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    TOUCH = "touch"
    REDRAW = "redraw"
    EMPTY = "empty"


@dataclass(slots=True)
class Gatekeeper:
    """Applies a rule to a growing record. The hold lasts until the response leaves the opening tree: at most as many tokens
    as the longest opening has, mostly one. Behind it refusing is weighed again wherever the answer may begin anew, and what
    the rule touches there is held until it has opened as a refusal or not.

    A reasoning before the answer is held with it, or runs live where `hold_reasoning` is off. `needless`: log-odds of harm
    up to which a request that was refused is answered anew, once; None: none is. `read`: the client has begun to read;
    `released`: the answer's opening was judged and let go; `weighed`: indices of the tokens at which refusing was weighed.
    """

    rule: Rule
    hold_reasoning: bool = True
    needless: float | None = None
    read: bool = False
    released: bool = False
    weighed: set[int] = field(default_factory=set)
    _weighing: Weighing | None = None
    _seen: int = 0

    def move(self, record: ResponseRecord, *, ended: bool) -> Move:
        """What to do now that the record has grown. Raises ArithmeticError when the probe is silent where it matters."""
        move = self._move(record, ended=ended)
        self.read |= move is Move.RELEASE
        return move

    def _move(self, record: ResponseRecord, *, ended: bool) -> Move:
        if record.thinking:
            if not self.hold_reasoning:
                return Move.RELEASE
            return Move.EMPTY if ended else Move.HOLD
        if not self.released:
            if not (record.decided or ended):
                return Move.HOLD
            if not record.opening_matched and self.rule.touches_opening(record.signals):
                return Move.TOUCH
            if self._over_refused(record):
                return Move.REDRAW
            self.released = True
            self.weighed.update(range(record.decided_at))
            self._seen = record.decided_at
        elif not record.opening_matched and self.rule.touches_running(record.signals):
            return Move.TOUCH
        return self._follow(record, ended=ended)

    def _over_refused(self, record: ResponseRecord) -> bool:
        """Whether this opened as a refusal that the harm sense calls needless, and another answer may take its place."""
        if self.needless is None or self.read or not record.opening_matched or record.harm is None:
            return False
        # What the rule would touch were it no refusal it would touch in every other answer too.
        return record.harm <= self.needless and not self.rule.touches_opening(record.signals)

    def _follow(self, record: ResponseRecord, *, ended: bool) -> Move:
        """Weigh refusing again where the answer begins anew, a refusal that turns into an answer among them."""
        if not record.openings:
            return Move.RELEASE
        if self._weighing is None:
            self._weighing = Weighing(
                record.openings, record.beginnings, record.steered, record.opening_matched, since=record.reasoned
            )
        weighing = self._weighing
        for at in range(self._seen, len(record.tokens)):
            left = weighing.step(record.tokens, at, record.masses[at])
            if left or weighing.weighing:
                self.weighed.add(at)
            if left and self.rule.touches_anew(record.signals, weighing.mass, refused=record.opening_matched):
                return Move.TOUCH
        self._seen = len(record.tokens)
        if weighing.weighing and self.rule.touches_anew(record.signals, weighing.mass, refused=record.opening_matched):
            return Move.TOUCH if ended else Move.HOLD
        return Move.RELEASE
