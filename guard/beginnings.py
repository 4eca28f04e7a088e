"""Beginnings: at which token an answer begins, and where it may begin anew, told by token ids.

A model that is told how to begin ("Answer:", a brace, a blank line) weighs refusing behind that beginning and not at the
first token. So what may stand before an answer is skipped, and refusing is weighed again where an answer may begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guard.openings import LEFT, MATCHED, ROOT, Openings, Tokens

WINDOW = 32
"""Tokens of an answer within which it may begin anew: a demanded beginning is a phrase and not a page."""


@dataclass(frozen=True, slots=True)
class Beginnings:
    """Token ids of one tokenizer and chat template, by what an answer may do around them.

    header: what the template puts before an answer; empty: nothing that is known; marks: added tokens of the template;
    blank: white space, and marks of a reasoning; breaks: what an answer may begin anew behind (a colon, a quote, a line's
    end), marks and blanks among them; ends: those of them that end a sentence.
    """

    header: Tokens = ()
    marks: frozenset[int] = frozenset()
    blank: frozenset[int] = frozenset()
    breaks: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()

    def leads(self, token: int) -> bool:
        """Whether the token may stand before an answer and is no part of it. A mark that ends a turn is an answer's end."""
        return token in self.blank or (token in self.marks and token in self.header)

    def aside(self, token: int) -> bool:
        """Whether the token says nothing, wherever it stands."""
        return token in self.blank or token in self.marks

    def moved(self, prompt: Sequence[int], *, chat: bool) -> bool:
        """Whether the answer does not begin where the prompt ends: it was begun in the prompt, or whose turn it is was left
        to the model. A prompt that is no chat and has no mark of the template in it is plain text, which moves nothing."""
        if not (self.header or self.marks) or not chat and self.marks.isdisjoint(prompt):
            return False
        said, header = self._stripped(prompt), self._stripped(self.header)
        if not header:  # templates that add nothing before an answer end the turn before it with a mark
            return not said or said[-1] not in self.marks
        return said[-len(header) :] != header

    def _stripped(self, tokens: Sequence[int]) -> Tokens:
        """The tokens without those at their end that are blank."""
        end = len(tokens)
        while end and tokens[end - 1] in self.blank:
            end -= 1
        return tuple(tokens[:end])


@dataclass(slots=True)
class Weighing:
    """Follows an answer behind its decision, from place to place where it may begin anew.

    steered: the request keeps the model from some tokens or makes it take others. An opening is then no refusal, and every
    token of the window is a place; refuses: the answer opened as a refusal. It may then turn at the end of any sentence;
    since: index of the first token of the answer, or of the turn; place, mass: index of the token being
    weighed, and the refusal mass at it.
    """

    openings: Openings
    beginnings: Beginnings
    steered: bool = False
    refuses: bool = False
    since: int = 0
    place: int = -1
    mass: float = float("nan")
    _node: int = LEFT

    def step(self, tokens: Sequence[int], at: int, mass: float) -> bool:
        """Take in the response's token at index `at`, with the mass measured at it; whether a place was left by it without
        refusing."""
        token = tokens[at]
        if self.weighing:
            self._node = self.openings.step(self._node, token)
        elif self._begins(tokens, at):
            self.place, self.mass, self._node = at, mass, self.openings.anew(token)
        else:
            return False
        self.refuses |= self._node == MATCHED and not self.steered
        return self._node == LEFT

    @property
    def weighing(self) -> bool:
        """Whether the answer is inside an opening that it has begun anew."""
        return self._node >= ROOT

    def _begins(self, tokens: Sequence[int], at: int) -> bool:
        token, before = tokens[at], tokens[at - 1] if at else None
        if token in self.beginnings.marks:  # another turn
            self.since, self.refuses = at, False
        if before is None or self.beginnings.aside(token):
            return False
        if self.refuses:
            return before in self.beginnings.ends
        fresh = at - self.since < WINDOW
        if self.steered:
            return fresh or before in self.beginnings.breaks
        return fresh and before in self.beginnings.breaks


def places_left(weighing: Weighing, tokens: Sequence[int], start: int) -> list[int]:
    """Indices of the places, from token `start` on, at which an answer began anew and went on without refusing.

    A calibration sets its threshold by what is judged later: the masses there, together with the one at the first token.
    """
    return [weighing.place for at in range(start, len(tokens)) if weighing.step(tokens, at, weighing.mass)]
