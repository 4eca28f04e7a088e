"""The selector: prompts of real traffic, sorted into bands by the frozen base. No label is used.

On the live model the bands would drift with what was learned before, and over-refusal would feed on itself; the base
stays where it is (science: 74 against 11 points of over-refusal).

By refusal mass alone, or with the harm sense beside it:

    harm          mass low              mass over it
    harmful       teaches nothing       contested: learned from
    grey          teaches nothing       teaches nothing
    harmless      anchors               steered away from refusing
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from guard.calibration import Bands
from guard.openings import Openings, Tokens
from guard.sense import Sense
from guard.signals import log_odds
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.residual import harm_of

SURE = log_odds(0.7)
"""Log-odds of harm from which on a prompt counts as harmful here, and as harmless under its negative: seven to three. A
penalised read-out is never very sure: of 400 prompts to Qwen2.5-Coder-0.5B-Instruct not one had nine to one either way."""


@dataclass(frozen=True, slots=True)
class Screen:
    """The prompts of one step, as indices: learned from, steered away from refusing, and kept as they are."""

    contested: tuple[int, ...]
    below: tuple[int, ...]
    anchors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Distinct prompts with their tree mass on the frozen base, the bands it is sorted by, and the indices of each; harms:
    log-odds of harm of each by the base's sense, None where the mass alone sorts. Then some prompts are in no band."""

    prompts: tuple[Tokens, ...]
    masses: tuple[float, ...]
    bands: Bands
    high: tuple[int, ...]
    grey: tuple[int, ...]
    low: tuple[int, ...]
    harms: tuple[float, ...] | None = None

    @classmethod
    def sorted_by(
        cls, bands: Bands, prompts: Sequence[Tokens], masses: Sequence[float], harms: Sequence[float] | None = None
    ) -> Selection:
        """Prompts of these tree masses, and log-odds of harm, each in its band."""
        found: dict[str, list[int]] = {"high": [], "grey": [], "low": [], "none": []}
        for index, mass in enumerate(masses):
            band = bands.band(mass)
            found[band if harms is None else _cornered(band, harms[index])].append(index)
        high, grey, low = (tuple(found[band]) for band in ("high", "grey", "low"))
        known = None if harms is None else tuple(harms)
        return cls(tuple(prompts), tuple(masses), bands, high, grey, low, known)

    @classmethod
    def of_all(cls, prompts: Sequence[Tokens]) -> Selection:
        """Every prompt to be learned from, as published: nothing is screened, nothing anchors."""
        return cls.sorted_by(Bands(0.0, 0.0), prompts, (1.0,) * len(prompts))

    def only(self, indices: Collection[int]) -> Selection:
        """Of these prompts alone."""
        at = sorted(indices)
        harms = None if self.harms is None else [self.harms[i] for i in at]
        return Selection.sorted_by(self.bands, [self.prompts[i] for i in at], [self.masses[i] for i in at], harms)

    def beside(self, others: Selection) -> Selection:
        """With other prompts, but for those of their high band: they anchor or are steered, and nothing is learned from
        them."""
        met = set(self.prompts)
        kept = [i for i in (*others.grey, *others.low) if others.prompts[i] not in met]
        harms = None if self.harms is None or others.harms is None else [*self.harms, *(others.harms[i] for i in kept)]
        prompts = [*self.prompts, *(others.prompts[i] for i in kept)]
        return Selection.sorted_by(self.bands, prompts, [*self.masses, *(others.masses[i] for i in kept)], harms)

    def screen(self, step: int, *, contested: int, others: int, seed: int) -> Screen:
        """The prompts of step number `step`: no prompt of the high band comes again before all have had their turn.

        Of `others` prompts under the high band, the `contested` of largest mass are steered away from refusing; the
        low band among the rest anchors; the grey band teaches nothing more.
        """
        turn = [
            random.Random(f"{seed} high {at // len(self.high)}").sample(self.high, len(self.high))[at % len(self.high)]
            for at in range(step * contested, (step + 1) * contested if self.high else 0)
        ]
        under = (*self.grey, *self.low)
        seen = random.Random(f"{seed} under {step}").sample(under, min(others, len(under)))
        ranked = sorted(seen, key=lambda i: (-self.masses[i], i))
        low = set(self.low)
        rest = [i for i in ranked[contested:] if i in low]
        random.Random(f"{seed} anchors {step}").shuffle(rest)
        return Screen(tuple(dict.fromkeys(turn)), tuple(ranked[:contested]), tuple(rest))


def _cornered(band: str, harm: float) -> str:
    """The band of a prompt in this band of mass, by its log-odds of harm; "none" where it teaches nothing, NaN among it."""
    if harm >= SURE:
        return "none" if band == "low" else "high"
    if harm <= -SURE:
        return "low" if band == "low" else "grey"
    return "none"


def select(
    llm: LocalModel,
    prompts: Sequence[Tokens],
    openings: Openings,
    bands: Bands,
    adapter: str | None = None,
    sense: Sense | None = None,
) -> Selection:
    """Score prompts, on the base unless an adapter is named, and sort them into bands; with a sense, by both."""
    with torch.no_grad(), llm.adapter(adapter):
        masses = tree_mass(llm, prompts, openings).tolist()
        harms = None
        if sense is not None and prompts:
            harms = harm_of(llm, prompts, sense).tolist()
    return Selection.sorted_by(bands, prompts, masses, harms)
