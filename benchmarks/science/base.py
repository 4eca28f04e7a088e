"""A base model with all that its runs share, and what is asked of every model made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import models
from evaluation import Figure, GrammarJudge, Outcome, Prompt, load_suite, summarise, to_dict
from evaluation.statistics import cluster_bootstrap
from guard.calibration import Calibration
from models.recipe.__main__ import main as recipe
from online.calibration.calibrate import calibrate
from online.model.decoding import generate
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.sample import Sample
from online.training.entropy_gap import Gap
from online.training.selector import Selection, select

CACHE = Path(".cache/science")
CHUNK = 2048
MAX_TOKENS = 96
DRAWS = 4
"""Responses at temperature 1 to each harmful prompt, and of best-of-n."""
PART = 4
"""Most runs are asked each PARTth prompt only; those that are asked all have their figures on that part beside."""

Answers = dict[str, list[Outcome]]
"""Outcomes by mode, "sampled" (in the order of `drawn`) and "greedy" (in the order of the prompts)."""
Masses = NDArray[np.float64]
"""A model's tree mass on each of some prompts."""


@dataclass
class Base:
    """A base model, the prompts it and all that is made from it are asked, its calibration and its sorted traffic."""

    number: int
    folder: Path
    prompts: list[Prompt]

    @cached_property
    def calibration(self) -> Calibration:
        """From the labelled split, kept on disk."""
        path = CACHE / f"calibration-{self.number}-{fingerprint(self.folder)[7:19]}.json"
        if not path.exists():
            suite = load_suite(models.suite("calibration"))
            made = calibrate(self.llm(), "base", suite, GrammarJudge(), fingerprint(self.folder), seed=self.number)
            made.save(path)
        return Calibration.load(path)

    def llm(self) -> LocalModel:
        return LocalModel.load(self.folder)

    def select(self, traffic: Sequence[Prompt]) -> Selection:
        """Traffic as the frozen base sorts it."""
        llm = self.llm()
        asked = [llm.render(prompt.messages) for prompt in traffic]
        return select(llm, asked, self.calibration.openings, self.calibration.tree_mass)

    def masses(self, llm: LocalModel, prompts: Sequence[Prompt]) -> Masses:
        """By the base's openings, with whatever adapter is on."""
        asked = [llm.render(prompt.messages) for prompt in prompts]
        with torch.no_grad():
            return tree_mass(llm, asked, self.calibration.openings).double().numpy()

    @cached_property
    def part(self) -> Base:
        """The same base, asked each PARTth prompt."""
        return Base(self.number, self.folder, self.prompts[::PART])


def base_model(number: int) -> Path:
    """The bundled model for number 0, else one trained by the same recipe from another seed."""
    if number == 0:
        return models.bundled()
    folder = CACHE / f"base{number}"
    if not (folder / "config.json").exists():
        recipe(["build", "--seed", str(number), "--out", str(folder)])
    return folder


def drawn(prompts: Sequence[Prompt]) -> list[Prompt]:
    """What is asked at temperature 1: every prompt, the harmful ones DRAWS times."""
    return [prompt for prompt in prompts for _ in range(DRAWS if prompt.kind == "harmful" else 1)]


def asked(
    llm: LocalModel, prompts: Sequence[Prompt], n: int, temperature: float, seed: int, what: str
) -> list[list[Sample]]:
    """`n` responses to each prompt."""
    found: list[list[Sample]] = []
    for start in tqdm(range(0, len(prompts), CHUNK), desc=what, unit="chunk"):
        rendered = [llm.render(prompt.messages) for prompt in prompts[start : start + CHUNK]]
        samples = generate(llm, rendered, n, temperature=temperature, max_tokens=MAX_TOKENS, seed=seed + start)
        found += [samples[at : at + n] for at in range(0, len(samples), n)]
    return found


def judged(llm: LocalModel, prompts: Sequence[Prompt], samples: Iterable[Sample]) -> list[Outcome]:
    judge = GrammarJudge()
    return [judge.judge(p, llm.text(s.tokens)) for p, s in zip(prompts, samples, strict=True)]


def both(llm: LocalModel, prompts: Sequence[Prompt], seed: int, what: str) -> tuple[Answers, Gap]:
    """Judged responses in both modes, and the entropy gap among the harmful ones at temperature 1."""
    many = drawn(prompts)
    sampled = [one for (one,) in asked(llm, many, 1, 1.0, seed, f"{what}, T=1")]
    greedy = [one for (one,) in asked(llm, prompts, 1, 0.0, seed, f"{what}, greedy")]
    answers = {"sampled": judged(llm, many, sampled), "greedy": judged(llm, prompts, greedy)}
    harmful = [(o, s.entropy) for p, o, s in zip(many, answers["sampled"], sampled, strict=True) if p.kind == "harmful"]
    kinds = ([h for o, h in harmful if o is kind] for kind in (Outcome.REFUSAL, Outcome.COMPLIANCE))
    return answers, Gap.between(*kinds)


def over_families(pairs: Iterable[tuple[Prompt, Outcome]], what: Outcome) -> Figure:
    """A share with an interval that knows how alike prompts of one wrapper family are, or of one action where none is."""
    listed = list(pairs)
    return cluster_bootstrap([o is what for _, o in listed], [p.family or p.cluster for p, _ in listed])


def record(prompts: Sequence[Prompt], answers: Answers, gap: Gap | None = None, **more: object) -> dict[str, Any]:
    """One run's figures, named as the demo names them."""
    found: dict[str, Any] = {
        "prompts": len(prompts),
        "after": to_dict(summarise(drawn(prompts), answers["sampled"], over_families)),
        "greedy": to_dict(summarise(prompts, answers["greedy"], over_families)),
    }
    if gap is not None:
        found["after"]["entropy_gap"] = gap.auroc.to_dict()
    return {**found, **more}


def with_part(prompts: Sequence[Prompt], answers: Answers, gap: Gap | None = None, **more: object) -> dict[str, Any]:
    """The record of a run that was asked all prompts, with its figures on the part that every run is asked."""
    part = {prompt.id for prompt in prompts[::PART]}
    lists = {"sampled": drawn(prompts), "greedy": prompts}
    fewer = {mode: [o for p, o in zip(lists[mode], answers[mode], strict=True) if p.id in part] for mode in lists}
    return record(prompts, answers, gap, part=record(prompts[::PART], fewer), **more)


def ruled(prompts: Sequence[Prompt], answers: Answers, over: Sequence[bool]) -> Answers:
    """The answers, with a refusal in the place of each where `over` says so of its prompt."""
    refuse = {prompt.id: bool(yes) for prompt, yes in zip(prompts, over, strict=True)}
    return {
        mode: [Outcome.REFUSAL if refuse[p.id] else o for p, o in zip(listed, answers[mode], strict=True)]
        for mode, listed in (("sampled", drawn(prompts)), ("greedy", prompts))
    }


def cells(prompts: Sequence[Prompt]) -> dict[str, NDArray[np.bool_]]:
    """Which prompts are in each of the cells that curves are drawn of."""

    def where(inside: Callable[[Prompt], bool]) -> NDArray[np.bool_]:
        return np.array([inside(prompt) for prompt in prompts])

    wrapped_harm = [p.kind == "harmful" and not p.new_topic and bool(p.family) for p in prompts]
    return {
        "seen": where(lambda p: p.novelty == "seen") & wrapped_harm,
        "never": where(lambda p: p.novelty == "never") & wrapped_harm,
        **{name: where(lambda p, name=name: p.over_refusal_class == name) for name in ("plain", "wrapped", "borderline")},
    }
