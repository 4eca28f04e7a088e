"""Held-out prompts: what candidate, base and active version are asked at the gate, and their answers.

Labelled held-out prompts, drawn anew for every candidate; the operator's own suites; and recent live prompts that the base
does not hesitate on, whose labels nobody knows: on them a candidate must stay as the base is.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation import Judge, Outcome, Prompt, outcomes
from evaluation.statistics import effective_number
from guard.openings import Openings, Tokens
from online.gate.reference_answers import likelihood
from online.model.chunked_logits import per_token
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import tree_mass
from online.model.sample import Sample
from online.training import objective

TASKS = 2
"""Tasks asked for each prompt of another class: whether an answer is right has no exact mass."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Places of labelled prompts (in `HeldOut.asked`) and of live ones (in `HeldOut.traffic`), each in ascending order."""

    asked: NDArray[np.int64]
    traffic: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out prompts, on which every claim must be shown; suites that must not contradict one, by name; suites of which
    every single prompt must come out right; and recent live prompts of the base's low band."""

    prompts: Sequence[Prompt]
    suites: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    vetoes: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    traffic: Sequence[Tokens] = ()

    @property
    def asked(self) -> list[Prompt]:
        """All labelled prompts, in the order of `Measured`."""
        return [*chain(*self.parts)]

    @property
    def parts(self) -> list[Sequence[Prompt]]:
        """The same, apart: the held-out prompts, then each suite, then each veto."""
        return [self.prompts, *self.suites.values(), *self.vetoes.values()]

    @property
    def rows(self) -> Rows:
        """All of it."""
        return Rows(np.arange(len(self.asked)), np.arange(len(self.traffic)))

    def some(self, rows: Rows) -> HeldOut:
        """What lies at some rows of it."""
        kept, at = set(rows.asked.tolist()), 0
        found: list[list[Prompt]] = []
        for part in self.parts:
            found.append([prompt for place, prompt in enumerate(part, at) if place in kept])
            at += len(part)
        named = iter(found[1:])
        suites, vetoes = ({name: next(named) for name in names} for names in (self.suites, self.vetoes))
        return HeldOut(found[0], suites, vetoes, [self.traffic[row] for row in rows.traffic])


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one policy does on live traffic, one entry a prompt: tree mass; tokens of a sampled response; KL to the base in
    nats, over the whole vocabulary, summed along it."""

    mass: NDArray[np.float64]
    length: NDArray[np.float64]
    kl: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Replayed], rows: Sequence[Rows]) -> Replayed:
        """As `Measured.joined`."""
        order = np.argsort(np.concatenate([each.traffic for each in rows]))
        return cls(*(_ordered([getattr(part, one.name) for part in parts], order) for one in fields(cls)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one policy does on labelled prompts, one entry a prompt.

    mass: tree mass; sampled, greedy: outcomes at temperature 1 and 0; length: tokens of the sampled response; repeats:
    whether a 4-gram of tokens occurs in it more than twice; opening: its first four tokens; cut: whether the greedy response
    came to the limit of tokens before its end; likelihood: log-likelihood of a task's right answer in nats a token, NaN
    where none is known.
    """

    mass: NDArray[np.float64]
    sampled: tuple[Outcome, ...]
    greedy: tuple[Outcome, ...]
    length: NDArray[np.float64]
    repeats: NDArray[np.bool_]
    opening: tuple[Tokens, ...]
    cut: NDArray[np.bool_]
    likelihood: NDArray[np.float64]
    replayed: Replayed | None = None

    def part(self, where: slice) -> Measured:
        """Some of the prompts."""
        rows = [one.name for one in fields(self) if one.name != "replayed"]
        return Measured(**{name: getattr(self, name)[where] for name in rows}, replayed=self.replayed)

    @classmethod
    def joined(cls, parts: Sequence[Measured], rows: Sequence[Rows]) -> Measured:
        """All of what was measured in parts, each at rows of its own, in the order of the whole."""
        order = np.argsort(np.concatenate([each.asked for each in rows]))
        names = [one.name for one in fields(cls) if one.name != "replayed"]
        live = [part.replayed for part in parts if part.replayed is not None]
        return cls(
            **{name: _ordered([getattr(part, name) for part in parts], order) for name in names},
            replayed=Replayed.joined(live, [each for each in rows if len(each.traffic)]) if live else None,
        )

    @property
    def variety(self) -> float:
        """Effective number of refusal openings."""
        refused = zip(self.opening, self.sampled, strict=True)
        return effective_number(opening for opening, outcome in refused if outcome is Outcome.REFUSAL)


def _ordered(parts: Sequence[Any], order: NDArray[np.int64]) -> Any:
    """Arrays, or tuples, as one in a given order."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[order]
    whole = [*chain(*parts)]
    return tuple(whole[at] for at in order)


def draw_held_out(prompts: Sequence[Prompt], limit: int, luck: str | None = None) -> list[Prompt]:
    """`limit` prompts of each class (harmful and the three in which refusals are too many) and twice as many tasks: the
    first ones or, with `luck`, a draw of its own."""
    turns = list(prompts) if luck is None else random.Random(luck).sample(list(prompts), len(prompts))
    counts: Counter[str] = Counter()
    kept = set()
    for prompt in turns:
        group = prompt.over_refusal_class or prompt.kind
        counts[group] += 1
        if counts[group] <= limit * (TASKS if group == "task" else 1):
            kept.add(prompt.id)
    return [prompt for prompt in prompts if prompt.id in kept]


def measure(
    policy: LocalModel,
    held_out: HeldOut,
    judge: Judge,
    openings: Openings,
    *,
    rows: Rows | None = None,
    seed: int = 0,
    max_tokens: int = 128,
    task_tokens: int = 512,
) -> Measured:
    """Ask the policy, as it answers now, each prompt at temperature 1 and greedily, and weigh its choice to refuse.

    Tasks have a length of their own, for an answer that is cut is no right one. rows: those alone; what is asked beside a
    prompt changes nothing about its answer.
    """
    rows = held_out.rows if rows is None else rows
    everything = held_out.asked
    prompts, traffic = [everything[row] for row in rows.asked], [held_out.traffic[row] for row in rows.traffic]
    asked = [policy.render(prompt.messages) for prompt in prompts]
    limits = [task_tokens if prompt.kind == "task" else max_tokens for prompt in prompts]
    sampled, greedy = (_answers(policy, asked, limits, rows.asked.tolist(), heat, seed) for heat in (1.0, 0.0))
    ends = set(policy.ends.tolist())
    with torch.no_grad():
        mass = tree_mass(policy, asked, openings).double().cpu().numpy()

    def judged(samples: Sequence[Sample]) -> tuple[Outcome, ...]:
        return tuple(outcomes(judge, prompts, [policy.text(sample.tokens) for sample in samples]))

    return Measured(
        mass=mass,
        sampled=judged(sampled),
        greedy=judged(greedy),
        length=np.array([len(s.tokens) for s in sampled], float),
        repeats=np.array([repeats(s.tokens) for s in sampled], bool),
        opening=tuple(s.tokens[:4] for s in sampled),
        cut=np.array(
            [len(s.tokens) == most and s.tokens[-1] not in ends for s, most in zip(greedy, limits, strict=True)], bool
        ),
        likelihood=likelihood(policy, prompts, asked),
        replayed=replay(policy, traffic, openings, seed, max_tokens, rows.traffic.tolist()) if traffic else None,
    )


def _answers(
    policy: LocalModel,
    prompts: Sequence[Tokens],
    limits: Sequence[int],
    numbers: Sequence[int],
    temperature: float,
    seed: int,
) -> list[Sample]:
    """A response to each prompt, of as many tokens at most as its limit, its luck fixed by its number."""
    found: dict[int, Sample] = {}
    for limit in set(limits):
        rows = [row for row, one in enumerate(limits) if one == limit]
        mine, luck = [prompts[row] for row in rows], [numbers[row] for row in rows]
        said = generate(policy, mine, temperature=temperature, max_tokens=limit, seed=seed, numbers=luck)
        found |= dict(zip(rows, said, strict=True))
    return [found[row] for row in range(len(prompts))]


@torch.no_grad()
def replay(
    policy: LocalModel, prompts: Sequence[Tokens], openings: Openings, seed: int, max_tokens: int, numbers: Sequence[int]
) -> Replayed:
    """Ask the policy, as it answers now, what clients asked; numbers: what fixes each prompt's luck."""
    samples = generate(policy, prompts, max_tokens=max_tokens, seed=seed, numbers=numbers)
    kl, answers = np.zeros(len(samples)), [sample.tokens for sample in samples]
    for batch in policy.batches(prompts, answers):
        rows = [prompts[i] for i in batch], [answers[i] for i in batch]
        mine = policy.response_logits(*rows)[0]
        with policy.adapter(None):
            base, _, mask = policy.response_logits(*rows)
        kl[batch] = (per_token(objective.full_vocabulary_kl, mine, base) * mask).sum(1).cpu()
    mass = tree_mass(policy, prompts, openings).double().cpu().numpy()
    return Replayed(mass, np.array([len(tokens) for tokens in answers], float), kl)


def repeats(tokens: Sequence[int]) -> bool:
    """Whether some 4-gram occurs more than twice."""
    grams = Counter(tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3))
    return max(grams.values(), default=0) > 2
