"""The response record: the measurements of one response, token by token, and the figures made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from guard.beginnings import Beginnings
from guard.openings import LEFT, MATCHED, ROOT, Openings
from guard.reasoning import THINKING
from guard.signals import Signals


@dataclass(slots=True)
class ResponseRecord:
    """Tokens, entropies (nats) and refusal masses of one choice, in the order generated, the end token included.

    `refusal_mass` is the mass at the decision point: the deepest node of the opening tree the response reached. For a
    response that leaves at its first token that is the first-token mass; for one that begins like a refusal ("I") it is
    what the model thought one token later. Positions after the decision do not move it. `first_mass` is the one where the
    answer begins.

    The first `reasoned` tokens lead up to the answer, as a reasoning, white space or marks of the template: they are on
    record, and no signal, mass or figure is taken from them. `steered`: the request kept the model from some tokens or made
    it take others; it did not open as a refusal then, whatever it says. `decided_at`: tokens up to the decision.
    """

    openings: Openings | None = None
    beginnings: Beginnings = Beginnings()
    steered: bool = False
    tokens: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    masses: list[float] = field(default_factory=list)
    refusal_mass: float | None = None
    first_mass: float | None = None
    signals: Signals = field(default_factory=Signals)
    reasoned: int = 0
    decided_at: int = 0
    _node: int = ROOT

    def begin(self, prompt: Sequence[int]) -> None:
        """Take in the prompt's tokens, which may open a reasoning; before the first token of the response."""
        self._node = self.openings.begin(prompt) if self.openings else ROOT

    def extend(self, tokens: Iterable[int], entropies: Iterable[float], masses: Iterable[float]) -> None:
        """Take in the tokens of one engine step, each with its entropy and mass (NaN where none was measured)."""
        for token, entropy, mass in zip(tokens, entropies, masses, strict=True):
            self.tokens.append(token)
            self.entropies.append(entropy)
            self.masses.append(mass)
            decided = self.decided
            if not decided and self.openings:
                if self._leads(self.openings, token):
                    self.reasoned = len(self.tokens)
                    continue
                self.decided_at = len(self.tokens)
                if not math.isnan(mass):
                    self.refusal_mass = mass
                    self.first_mass = mass if self.first_mass is None else self.first_mass
            self.signals.step(entropy, mass, decided=decided)

    def _leads(self, openings: Openings, token: int) -> bool:
        """Take a step towards the decision; whether the token only leads up to the answer."""
        node, known = self._node, openings.reasoning
        if node == ROOT and self.beginnings.leads(token) and not (known and token in known.aside):  # which openings step by
            return True
        self._node = openings.step(node, token)
        return node == THINKING or self._node in (ROOT, THINKING)

    @property
    def harm(self) -> float | None:
        """Log-odds that the request is harmful (`Signals.harm`); None where none was read."""
        return None if math.isnan(self.signals.harm) else self.signals.harm

    @harm.setter
    def harm(self, odds: float | None) -> None:
        self.signals.harm = math.nan if odds is None else odds

    def trim(self, kept: int) -> None:
        """Forget the tokens after the first `kept`: vLLM found a stop string before them. What they decided stays."""
        del self.tokens[kept:], self.entropies[kept:], self.masses[kept:]
        self.reasoned = min(self.reasoned, kept)

    @property
    def opening_matched(self) -> bool:
        """Whether the answer opened as a refusal, of the model's own accord."""
        return self._node == MATCHED and not self.steered

    @property
    def decided(self) -> bool:
        """Whether the answer has left the opening tree, by completing an opening or by saying something else."""
        return self._node in (LEFT, MATCHED) or not self.openings

    @property
    def thinking(self) -> bool:
        """Whether the answer has not begun: the last token was the reasoning's, or stands blank before the answer."""
        return self._node == THINKING or (self._node == ROOT and self.reasoned == len(self.tokens) > 0)

    @property
    def answer(self) -> Sequence[float]:
        """Entropies in nats of the answer's tokens, a reasoning before it left out."""
        return self.entropies[self.reasoned :] if self.reasoned else self.entropies

    @property
    def entropy_mean(self) -> float:
        """Mean token entropy of the answer in nats, NaN for none (arXiv 2510.01088: the reward is its negative)."""
        return mean(self.answer)

    @property
    def entropy_max(self) -> float:
        """Largest token entropy of the answer in nats; NaN, like the mean, for none or one with a token not measured."""
        return math.nan if math.isnan(self.entropy_mean) else max(self.answer)


def mean(entropies: Sequence[float]) -> float:
    return math.fsum(entropies) / len(entropies) if entropies else math.nan
