"""Reasoning: where a reasoning model's answer begins. The answer is judged apart from the reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THINKING = -3
"""The walk is inside the reasoning; its tokens are no part of the answer."""


@dataclass(frozen=True)
class Reasoning:
    """Token ids that open and close the reasoning, and those that may stand blank between it and the answer.

    The reasoning may be opened by the prompt, whose last mark is then an opening one, or by the response's first token that
    is not blank. A mark in a user's own words counts too: an answer taken for a reasoning is withheld, and not let pass.
    """

    start: int
    end: int
    blank: frozenset[int] = frozenset()

    @property
    def aside(self) -> frozenset[int]:
        """What may be said before an answer and is no part of it. The mass at its beginning is taken among all other tokens:
        of a model about to think, or to begin a line, it would else be next to nothing, whatever it thought of refusing."""
        return self.blank | {self.start, self.end}

    def thinks(self, prompt: Sequence[int]) -> bool:
        """Whether a response to these prompt tokens begins inside the reasoning."""
        return next((token for token in reversed(prompt) if token in (self.start, self.end)), None) == self.start

    def step(self, thinking: bool, token: int) -> bool | None:
        """Before the answer: whether the response is thinking after `token`, or None where `token` begins the answer."""
        if thinking:
            return token != self.end
        if token == self.start:
            return True
        return False if token in self.aside else None

    def before_answer(self, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[tuple[int, ...], bool]:
        """The response's tokens before its answer, and whether the reasoning among them is still open at their end."""
        thinking = self.thinks(prompt)
        for at, token in enumerate(tokens):
            after = self.step(thinking, token)
            if after is None:
                return tuple(tokens[:at]), False
            thinking = after
        return tuple(tokens), thinking

    def to_json(self) -> dict[str, object]:
        return {"start": self.start, "end": self.end, "blank": sorted(self.blank)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reasoning:
        return cls(int(data["start"]), int(data["end"]), frozenset(map(int, data["blank"])))
