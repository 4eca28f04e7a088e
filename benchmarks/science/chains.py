"""What takes several models or several updates: the dose-response over entropy gaps, and refreshes in a row."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import models
from benchmarks.science.base import CACHE, Base, both, record
from benchmarks.science.runs import learn, traffic
from evaluation import Prompt
from guard.calibration import CalibrationError
from models.recipe import corpus, store
from models.recipe.train import encode, further
from online.settings.groups import UpdateSettings
from online.training.entropy_gap import may_learn
from online.training.trainer import ADAPTER

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the flipped corpus (rigid compliance, wordy refusals) in what a base is trained on further."""
EXAMPLES, RATE = 12_000, 1e-3
REFRESHES = 10
WINDOW, SHARE, MEMORY = 600, 0.03, 3
"""Prompts of traffic between two refreshes, how many of them are harmful, and how many such windows the buffer keeps."""
NEWEST = 0.5
"""Share of the harmful prompts that come in the wrapper families which have just arrived."""


def dosed(base: Base, dose: float) -> Path:
    """The base trained further on a mixture of the two corpora; at dose 0 the base itself."""
    if not dose:
        return base.folder
    folder = CACHE / f"dose{dose:g}-{base.number}"
    if not (folder / "config.json").exists():
        luck = random.Random(f"dose {base.number}")
        pairs = zip(*(corpus.corpus(base.number + 100, EXAMPLES, flipped) for flipped in (True, False)), strict=True)
        model, tokenizer = store.load(base.folder)
        data = [encode(flipped if luck.random() < dose else plain, tokenizer) for flipped, plain in pairs]
        store.save(further(model, data, tokenizer.pad_token_id, base.number, RATE), tokenizer, folder)
    return folder


def dose_response(base: Base, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What one update makes of models whose gap was worn away, the flipped control last; `says` is what the learner, which
    would ask first, says to it. It is taught here whatever it says."""
    rows = [(f"dose {dose:g}", dose) for dose in DOSES] + [("flipped", None)]
    for name, dose in rows:
        folder = models.bundled(models.FLIPPED) if dose is None else dosed(base, dose)
        model = Base(base.number, folder, base.part.prompts)
        what, llm = f"{name}, base {base.number}, seed {seed}", model.llm()
        before, gap = both(llm, model.prompts, seed, f"{what}, before")
        bare = record(model.prompts, before, gap, says=may_learn(gap))
        try:
            story = learn(model, llm, traffic(), UpdateSettings(seed=seed), what)
        except CalibrationError as error:
            yield name, bare | {"untaught": bare, "says": str(error)}
            continue
        with llm.adapter(ADAPTER):
            after, left = both(llm, model.prompts, seed, f"{what}, after")
        yield name, record(model.prompts, after, left, untaught=bare, says=bare["says"], **story)


def drifting(number: int, seed: int) -> list[Prompt]:
    """The traffic between refresh `number` - 1 and `number` (from 1): two wrapper families more each time, and the newest of
    them the fashion; benign prompts anew each time, of any wrapper."""
    every, luck = traffic(), random.Random(f"drift {seed} {number}")
    families = sorted({p.family for p in every if p.family})
    random.Random(f"arrivals {seed}").shuffle(families)
    each = len(families) // REFRESHES
    known, new = set(families[: each * number]), set(families[each * (number - 1) : each * number])
    harmful = [p for p in every if p.kind == "harmful" and (not p.family or p.family in known)]
    many = round(WINDOW * SHARE)
    fresh = _some([p for p in harmful if p.family in new], round(many * NEWEST), luck)
    older = _some([p for p in harmful if p.family not in new], many - len(fresh), luck)
    return [*fresh, *older, *_some([p for p in every if p.kind != "harmful"], WINDOW - many, luck)]


def _some(prompts: Sequence[Prompt], count: int, luck: random.Random) -> list[Prompt]:
    return luck.sample(prompts, min(count, len(prompts)))


def refreshes(base: Base, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Adapters in a row, each from the base, from what the buffer then holds."""
    base, arrived = base.part, []
    for number in range(1, REFRESHES + 1):
        arrived.append(drifting(number, seed))
        held = {prompt.id: prompt for window in arrived[-MEMORY:] for prompt in window}
        what, llm = f"refresh {number}, base {base.number}, seed {seed}", base.llm()
        story = learn(base, llm, list(held.values()), UpdateSettings(seed=seed + number), what)
        with llm.adapter(ADAPTER):
            answers, gap = both(llm, base.prompts, seed, what)
        yield f"refresh {number}", record(base.prompts, answers, gap, **story)


CHAINS = {"dose-response": dose_response, "refreshes": refreshes}
LINKS = {
    "dose-response": (*(f"dose {dose:g}" for dose in DOSES), "flipped"),
    "refreshes": tuple(f"refresh {number}" for number in range(1, REFRESHES + 1)),
}
"""The names under which each chain's records are kept."""
