"""Presets: what an update is made of, by name: the published setting, ours, and ours with parts left out or replaced.

An ablation is `anchored` with one thing changed, so that a table of them says what each part buys; the sampled ones are
one-sided, for the two-sided term is scaled to the exact form and drowns a sampled gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from guard.openings import Openings
from online.model.sample import Sample

Reward = Callable[[Sequence[Sample], Openings, torch.Generator], Tensor]
"""(samples, openings, the step's own randomness) -> one reward each, shape (samples,)."""


def entropy(samples: Sequence[Sample], openings: Openings, luck: torch.Generator) -> Tensor:
    """SIRL: minus the mean token entropy in nats (arXiv 2510.01088)."""
    return torch.tensor([-sample.entropy for sample in samples])


def negated(samples: Sequence[Sample], openings: Openings, luck: torch.Generator) -> Tensor:
    """SIRL's reward with its sign turned: hesitation is rewarded."""
    return -entropy(samples, openings, luck)


def perplexity(samples: Sequence[Sample], openings: Openings, luck: torch.Generator) -> Tensor:
    """Minimum perplexity: the mean log-probability in nats of a response's own tokens."""
    return torch.tensor([sample.logprob for sample in samples])


def chance(samples: Sequence[Sample], openings: Openings, luck: torch.Generator) -> Tensor:
    """Standard normal noise: what the machinery does when the reward says nothing."""
    return torch.randn(len(samples), generator=luck)


def opening(samples: Sequence[Sample], openings: Openings, luck: torch.Generator) -> Tensor:
    """1 for a response that opens as a refusal, else 0. In the exact form d = 1 for all: the refusal mass is maximised."""
    return torch.tensor([float(openings.matched(sample.tokens)) for sample in samples])


@dataclass(frozen=True, slots=True)
class Preset:
    """An objective in parts.

    form: the exact one at the decision, or the sampled one (clipped surrogate with k3 KL); normalise: whether group
    advantages are divided by their deviation; anchored, two_sided: the KL terms on low-band prompts, and the term on prompts
    just under the high band; lone: what becomes of a group that shows one mode only, "mean" (the exact form takes the
    running mean for the other, the sampled one keeps it) or "drop"; live: bands from the model as it is, not from the base;
    sensed: bands by the harm sense and the mass, not by the mass alone.
    """

    form: Literal["exact", "sampled"] = "exact"
    reward: Reward = entropy
    normalise: bool = False
    anchored: bool = True
    two_sided: bool = True
    lone: Literal["mean", "drop"] = "mean"
    live: bool = False
    sensed: bool = False


ANCHORED = Preset()
PAPER = Preset(form="sampled", normalise=True, anchored=False, two_sided=False)
PRESETS: Mapping[str, Preset] = {
    "anchored": ANCHORED,
    "sensed": replace(ANCHORED, sensed=True),
    "paper": PAPER,
    "sampled": replace(ANCHORED, form="sampled", lone="drop", two_sided=False),
    "opening": replace(ANCHORED, form="sampled", lone="drop", two_sided=False, reward=opening),
    "mass": replace(ANCHORED, reward=opening),
    "perplexity": replace(ANCHORED, reward=perplexity),
    "negated": replace(ANCHORED, reward=negated),
    "random": replace(ANCHORED, reward=chance),
    "drop-lone": replace(ANCHORED, lone="drop"),
    "one-sided": replace(ANCHORED, two_sided=False),
    "no-anchor": replace(ANCHORED, anchored=False),
    "live-selector": replace(ANCHORED, live=True),
}
