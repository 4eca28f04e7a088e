"""Scores: what a model would do with held-out prompts, exactly, by forward passes alone. No answer is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from guard.openings import Openings
from online.gate.held_out import HeldOut, Rows
from online.gate.joined import joined
from online.gate.reference_answers import likelihood
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass


@dataclass(frozen=True, slots=True)
class Scores:
    """mass: tree mass of each labelled prompt, NaN of a task, whose answer counts alone; likelihood: log-likelihood of a
    task's right answer in nats a token, NaN where none is known; live: tree mass of each prompt of live traffic."""

    mass: NDArray[np.float64]
    likelihood: NDArray[np.float64]
    live: NDArray[np.float64]

    def part(self, where: slice) -> Scores:
        """Of some of the labelled prompts."""
        return Scores(self.mass[where], self.likelihood[where], self.live)

    @classmethod
    def joined(cls, parts: Sequence[Self], rows: Sequence[Rows]) -> Self:
        """All of what was scored in parts, each at rows of its own, in the order of the whole."""
        return cls(**joined(parts, rows, asked=("mass", "likelihood"), traffic=("live",)))


@torch.no_grad()
def score(llm: LocalModel, held_out: HeldOut, openings: Openings, *, rows: Rows | None = None) -> Scores:
    """The scores of the model as it answers now; rows: of those alone."""
    rows = held_out.rows if rows is None else rows
    chosen = held_out.some(rows)
    prompts, traffic = chosen.asked, chosen.traffic
    asked = [llm.render(prompt.messages) for prompt in prompts]
    weighed = [row for row, prompt in enumerate(prompts) if prompt.kind != "task"]
    both = tree_mass(llm, [*(asked[row] for row in weighed), *traffic], openings).double().cpu().numpy()
    mass = np.full(len(prompts), np.nan)
    mass[weighed] = both[: len(weighed)]
    return Scores(mass, likelihood(llm, prompts, asked), both[len(weighed) :])
