"""A sample: one response of a local model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from guard.openings import Tokens


@dataclass(frozen=True, slots=True)
class Sample:
    """One response: index of its prompt, token ids with the end token, exact entropy and log-probability in nats of each."""

    prompt: int
    tokens: Tokens
    entropies: tuple[float, ...]
    logprobs: tuple[float, ...]

    @property
    def entropy(self) -> float:
        """Mean token entropy in nats; its negative is the reward (arXiv 2510.01088)."""
        return math.fsum(self.entropies) / len(self.entropies)

    @property
    def logprob(self) -> float:
        """Mean log-probability of its tokens in nats: minus the logarithm of its perplexity."""
        return math.fsum(self.logprobs) / len(self.logprobs)
