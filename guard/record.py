"""The running record of one response: what the probe sent, token by token, and what it amounts to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from guard.openings import MATCHED, ROOT, Openings
from guard.signals import Signals


@dataclass(slots=True)
class ResponseRecord:
    """Tokens, entropies (nats) and refusal masses of one choice, in the order generated, the end token included.

    `refusal_mass` is the mass at the decision point: the deepest node of the opening tree the response reached. For a
    response that leaves at its first token that is the first-token mass; for one that begins like a refusal ("I") it is
    what the model thought one token later. Positions after the decision do not move it.
    """

    openings: Openings | None = None
    tokens: list[int] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    masses: list[float] = field(default_factory=list)
    refusal_mass: float | None = None
    signals: Signals = field(default_factory=Signals)
    _node: int = ROOT

    def extend(self, tokens: Iterable[int], entropies: Iterable[float], masses: Iterable[float]) -> None:
        """Take in the tokens of one engine step, each with its entropy and mass (NaN where none was measured)."""
        for token, entropy, mass in zip(tokens, entropies, masses, strict=True):
            self.tokens.append(token)
            self.entropies.append(entropy)
            self.masses.append(mass)
            self.signals.step(entropy, mass, decided=self.decided)
            if self._node >= 0 and self.openings:
                if not math.isnan(mass):
                    self.refusal_mass = mass
                self._node = self.openings.step(self._node, token)

    def trim(self, kept: int) -> None:
        """Forget the tokens after the first `kept`: vLLM found a stop string before them. What they decided stays."""
        del self.tokens[kept:], self.entropies[kept:], self.masses[kept:]

    @property
    def opening_matched(self) -> bool:
        return self._node == MATCHED

    @property
    def decided(self) -> bool:
        """Whether the response has left the opening tree, by completing an opening or by saying something else."""
        return self._node < 0 or not self.openings

    @property
    def entropy_mean(self) -> float:
        """Mean token entropy in nats, NaN for an empty response (arXiv 2510.01088: the reward is its negative)."""
        return math.fsum(self.entropies) / len(self.entropies) if self.entropies else math.nan

    @property
    def entropy_max(self) -> float:
        """Largest token entropy in nats; NaN, like the mean, for an empty response or one with a token not measured."""
        return math.nan if math.isnan(self.entropy_mean) else max(self.entropies)
