"""Where a reasoning model's answer begins: it is judged apart from what was thought before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

THINKING = -3
"""The walk is inside the reasoning; its tokens are no part of the answer."""


@dataclass(frozen=True)
class Reasoning:
    """Token ids that open and close the reasoning, those that may stand blank between it and the answer, and those that
    begin an answer without closing it first (a tool call does in some models).

    The reasoning may be opened by the prompt, whose template then ends with the opening mark, or by the response's first
    token that is not blank. Marks further up in a prompt are its author's words and open nothing.
    """

    start: int
    end: int
    blank: frozenset[int] = frozenset()
    cutting: frozenset[int] = frozenset()

    @property
    def leaving(self) -> tuple[int, ...]:
        """The tokens that end the reasoning."""
        return (self.end, *sorted(self.cutting - {self.end}))

    def thinks(self, prompt: Sequence[int]) -> bool:
        """Whether a response to these prompt tokens begins inside the reasoning."""
        return next((token for token in reversed(prompt) if token not in self.blank), None) == self.start

    def step(self, thinking: bool, token: int) -> bool | None:
        """Before the answer: whether the response is thinking after `token`, or None where `token` begins the answer."""
        if thinking:
            return None if token in self.cutting else token != self.end
        if token == self.start:
            return True
        return False if token == self.end or token in self.blank else None

    def before_answer(self, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[tuple[int, ...], bool]:
        """The response's tokens before its answer, and whether the reasoning among them is still open at their end."""
        thinking = self.thinks(prompt)
        for at, token in enumerate(tokens):
            after = self.step(thinking, token)
            if after is None:
                return tuple(tokens[:at]), False
            thinking = after
        return tuple(tokens), thinking

    def to_json(self) -> dict:
        return {"start": self.start, "end": self.end, "blank": sorted(self.blank), "cutting": sorted(self.cutting)}

    @classmethod
    def from_json(cls, data: Mapping) -> Reasoning:
        blank, cutting = (frozenset(map(int, data[name])) for name in ("blank", "cutting"))
        return cls(int(data["start"]), int(data["end"]), blank, cutting)
