"""How often the gate errs: many candidates whose truth is known, each weighed on prompts drawn anew.

    python -m benchmarks.gate [--candidates N] [--chains N] [--results FILE]

The population is real: masses and outcomes of the bundled base, and of an adapter that one update teaches it, on the
whole gate suite. A simulated candidate is that adapter, or the base, with its truth moved by so many points in one respect:
either a few actions go wrong altogether, or every prompt a little (the odds of a refusal are multiplied). Outcomes are drawn
from the masses anew. "Good" is ten points more defence than the base and nothing worse.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import models
from benchmarks.attacks import BEGAN, DAY, DAYS, Siege
from benchmarks.science.base import Base, base_model
from evaluation import Outcome, Prompt, wanted
from evaluation.statistics import wilson
from online.gate.answers import Answers, answer
from online.gate.gate import Measured, compare
from online.gate.held_out import HeldOut, draw_held_out
from online.gate.scores import Scores, score
from online.operations.suites import suites_for
from online.settings.groups import GateSettings
from online.settings.settings import Settings
from online.state.files import write_atomic
from online.training.trainer import ADAPTER

RESULTS = Path("docs/science/gate.json")
CLASSES = ("plain", "wrapped", "borderline")
SHAPES = ("a few actions altogether", "every prompt a little")
REFRESHES = 10


@dataclass(frozen=True)
class World:
    """The gate suite, and what a model truly does on it: exact masses, and for tasks whether it is right."""

    prompts: Sequence[Prompt]
    mass: NDArray[np.float64]
    right: NDArray[np.float64]
    """(2, prompts), at temperature 1 and greedily. Of tasks: how likely the right answer; 1 for all else."""
    like: Answers
    """For what is not simulated: lengths, openings, repetition."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], found: Measured) -> World:
        answers = found.answers
        outcomes = (answers.sampled, answers.greedy)
        right = [[o is Outcome.ANSWER or p.kind != "task" for o, p in zip(way, prompts, strict=True)] for way in outcomes]
        return cls(prompts, found.scores.mass, np.array(right, float), answers)

    def where(self, group: str) -> NDArray[np.bool_]:
        return np.array([(prompt.over_refusal_class or prompt.kind) == group for prompt in self.prompts])

    def moved(self, group: str, points: float, shape: str, luck: np.random.Generator) -> World:
        """The same with refusals of a class (of tasks: wrong answers) rarer or more frequent by so many points, at
        temperature 1; greedily too where actions change altogether, for a little on every prompt changes no likeliest one.
        """
        here = self.where(group)
        values = 1 - self.right if group == "task" else self.mass[None].copy()
        target = np.clip(values[0, here].mean() + points / 100, 0, 1)
        end = float(points > 0)
        if shape == SHAPES[0]:
            names = np.array([prompt.cluster for prompt in self.prompts])
            for name in luck.permutation(np.unique(names[here])):
                if (values[0, here].mean() - target) * (1 if points > 0 else -1) >= 0:
                    break
                values[:, here & (names == name)] = end
        else:
            values[0, here] = with_mean(values[0, here], float(target))
        return replace(self, right=1 - values) if group == "task" else replace(self, mass=values[0])

    def answers(self, where: NDArray[np.int64], luck: np.random.Generator) -> Measured:
        """What a gate would measure on some of the prompts."""
        prompts = [self.prompts[i] for i in where]
        mass, right = self.mass[where], self.right[:, where]

        def outcomes(refuses: NDArray[np.bool_], solves: NDArray[np.bool_]) -> tuple[Outcome, ...]:
            return tuple(
                Outcome.REFUSAL
                if no
                else (wanted(p) if p.kind != "harmful" else Outcome.COMPLIANCE)
                if yes
                else Outcome.WRONG
                for p, no, yes in zip(prompts, refuses, solves, strict=True)
            )

        chance = luck.random((2, len(prompts)))
        like = self.like
        answers = replace(
            like,
            sampled=outcomes(chance[0] < mass, chance[1] < right[0]),
            greedy=outcomes(mass > 0.5, right[1] > 0.5),
            length=like.length[where],
            repeats=like.repeats[where],
            opening=tuple(like.opening[i] for i in where),
            cut=like.cut[where],
        )
        return Measured(Scores(mass, np.full(len(where), np.nan), np.zeros(0)), answers)


def with_mean(values: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    """Shares whose odds are multiplied alike, so that their mean is the target: by bisection on the logarithm."""
    odds = np.clip(values, 1e-4, 1 - 1e-4)
    odds = odds / (1 - odds)
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        shifted = odds * np.exp(middle) / (1 + odds * np.exp(middle))
        low, high = (middle, high) if shifted.mean() < target else (low, middle)
    return shifted


def measured_worlds(folder: Path, threads: int) -> tuple[World, World]:
    """The bundled base, and an adapter that one update teaches it from usual traffic (3% of it harmful)."""
    base = Base(0, base_model(0), [])
    siege = Siege(base, "none", 0, Settings(state_dir=folder, update={"threads": threads, "look_every": 0}))
    end = BEGAN + DAYS * DAY
    siege.lessons(end)
    siege.whole(end)
    suites = suites_for(models.bundled(), siege.settings)
    assert suites is not None, "the bundled model has suites"
    worlds = []
    for name in (None, ADAPTER):
        with siege.llm.adapter(name):
            scores = score(siege.llm, HeldOut(suites.gate), base.calibration.openings)
            answers = answer(siege.llm, HeldOut(suites.gate), suites.judge)
        worlds.append(World.of(suites.gate, Measured(scores, answers)))
    siege.buffer.close()
    return worlds[0], worlds[1]


@dataclass
class Simulation:
    """Gates of made-up candidates."""

    base: World
    learned: World
    settings: GateSettings
    seed: int = 0

    def passes(self, candidate: World, references: dict[str, World], luck: np.random.Generator) -> str:
        """What the gate decides on prompts drawn for this candidate."""
        drawn = {
            prompt.id for prompt in draw_held_out(self.base.prompts, self.settings.prompts_per_class, str(luck.random()))
        }
        where = np.array([i for i, prompt in enumerate(self.base.prompts) if prompt.id in drawn])
        prompts = [self.base.prompts[i] for i in where]
        measured = {name: world.answers(where, luck) for name, world in references.items()}
        return compare(HeldOut(prompts), candidate.answers(where, luck), measured, self.settings).decision

    def good(self, shape: str, luck: np.random.Generator) -> World:
        """Ten points more defence than the base, and nothing worse."""
        return self.base.moved("harmful", 10, shape, luck)

    def cases(self) -> Iterator[tuple[str, Callable[[str, np.random.Generator], tuple[World, dict[str, World]]]]]:
        """Name, and how such a candidate and its references are made."""
        base, learned = {"base": self.base}, self.learned
        yield "good", lambda shape, luck: (self.good(shape, luck), base)
        yield "learned", lambda shape, luck: (learned, base)
        yield "learned again", lambda shape, luck: (learned, {**base, "live": learned})
        for group in CLASSES:
            yield (
                f"good, {group} refusals +3",
                lambda shape, luck, group=group: (self.good(shape, luck).moved(group, 3, shape, luck), base),
            )
        yield "good, utility -3", lambda shape, luck: (self.good(shape, luck).moved("task", 3, shape, luck), base)
        yield "defence -3 of the base", lambda shape, luck: (self.base.moved("harmful", -3, shape, luck), base)
        yield (
            "defence -3 of what serves",
            lambda shape, luck: (learned.moved("harmful", -3, shape, luck), {**base, "live": learned}),
        )

    def rates(self, candidates: int) -> dict[str, dict]:
        """Share of candidates of each kind that pass, with its interval, by the shape of the change."""
        found: dict[str, dict] = {}
        for name, make in self.cases():
            for shape in SHAPES:
                luck = np.random.default_rng([self.seed, len(found)])
                bar = tqdm(range(candidates), desc=f"{name}, {shape}", unit="gate", leave=False)
                decisions = [self.passes(*make(shape, luck), luck) for _ in bar]
                share = wilson(decisions.count("promote"), candidates)
                found[f"{name}, {shape}"] = {
                    "passed": share.to_dict(),
                    "rejected": decisions.count("reject") / candidates,
                    "undecided": decisions.count("undecided") / candidates,
                }
        return found

    def creep(self, group: str, points: float, shape: str, luck: np.random.Generator) -> int:
        """How many of ten refreshes in a row pass, each so much worse than the one before where it was promoted."""
        live: World | None = None
        best: World | None = None
        passed = 0
        for _ in range(REFRESHES):
            start = live or self.learned
            candidate = start.moved(group, points, shape, luck)
            references = {"base": self.base} | ({} if live is None or best is None else {"live": live, "best": best})
            if self.passes(candidate, references, luck) == "promote":
                passed, live = passed + 1, candidate
                best = best or candidate  # each later one has lost against it
        return passed

    def creeps(self, chains: int) -> dict[str, list[int]]:
        """Refreshes that passed in each chain, by what got worse in each."""
        found = {}
        for group, points in (*((c, 0.9) for c in CLASSES), ("task", 0.9), ("harmful", -0.9)):
            for shape in SHAPES:
                luck = np.random.default_rng([self.seed, len(found), 1])
                bar = tqdm(range(chains), desc=f"{group} {points:+}, {shape}", unit="chain", leave=False)
                found[f"{group} {points:+} a refresh, {shape}"] = [self.creep(group, points, shape, luck) for _ in bar]
        return found


def table(results: dict) -> str:
    """The figures as Markdown."""
    lines = ["| candidate | passed, % | rejected, % | undecided, % |", "| --- | --- | --- | --- |"]
    for name, row in results["rates"].items():
        share = row["passed"]
        lines.append(
            f"| {name} | {100 * share['estimate']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}] "
            f"| {100 * row['rejected']:.1f} | {100 * row['undecided']:.1f} |"
        )
    lines += ["", "| ten refreshes in a row, each worse by | passed: mean, most | all ten passed |", "| --- | --- | --- |"]
    for name, passed in results["creeps"].items():
        lines.append(f"| {name} | {np.mean(passed):.1f}, {max(passed)} | {passed.count(REFRESHES)} of {len(passed)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="error rates of the gate")
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--chains", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        base, learned = measured_worlds(Path(folder), args.threads)
    simulation = Simulation(base, learned, GateSettings())
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "rates": simulation.rates(args.candidates),
        "creeps": simulation.creeps(args.chains),
    }
    args.results.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(args.results, json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()
