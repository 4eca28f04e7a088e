"""Answers: what a model does with held-out prompts, asked at temperature 1 and greedily, as a judge reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation import Judge, Outcome, outcomes
from evaluation.statistics import effective_number
from guard.openings import Tokens
from online.gate.held_out import HeldOut, Rows
from online.gate.joined import joined
from online.model.chunked_logits import per_token
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.sample import Sample
from online.training import objective

HEATS = (1.0, 0.0)
LIVE = ("live_length", "live_kl")


@dataclass(frozen=True, slots=True)
class Answers:
    """One entry a labelled prompt, but for the last two, which have one a prompt of live traffic.

    sampled, greedy: outcomes at temperature 1 and 0; length: tokens of the sampled response; repeats: whether a 4-gram of
    tokens occurs in it more than twice; opening: its first four tokens; cut: whether the greedy response came to the limit
    of tokens before its end. live_length: tokens of a sampled response; live_kl: KL to the base in nats, over the whole
    vocabulary, summed along it.
    """

    sampled: tuple[Outcome, ...]
    greedy: tuple[Outcome, ...]
    length: NDArray[np.float64]
    repeats: NDArray[np.bool_]
    opening: tuple[Tokens, ...]
    cut: NDArray[np.bool_]
    live_length: NDArray[np.float64]
    live_kl: NDArray[np.float64]

    def part(self, where: slice) -> Answers:
        """To some of the labelled prompts."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return Answers(**{name: value if name in LIVE else value[where] for name, value in found.items()})

    @classmethod
    def joined(cls, parts: Sequence[Self], rows: Sequence[Rows]) -> Self:
        """All of what was asked in parts, each at rows of its own, in the order of the whole."""
        labelled = [one.name for one in fields(cls) if one.name not in LIVE]
        return cls(**joined(parts, rows, asked=labelled, traffic=LIVE))

    @property
    def variety(self) -> float:
        """Effective number of refusal openings."""
        refused = zip(self.opening, self.sampled, strict=True)
        return effective_number(opening for opening, outcome in refused if outcome is Outcome.REFUSAL)


@torch.no_grad()
def answer(
    llm: LocalModel,
    held_out: HeldOut,
    judge: Judge,
    *,
    rows: Rows | None = None,
    seed: int = 0,
    max_tokens: int = 128,
    answer_tokens: int = 48,
    task_tokens: int = 512,
) -> Answers:
    """The answers of the model as it answers now.

    Live prompts are answered by `max_tokens` at most, for their KL is summed. Other prompts have less (`answer_tokens`), and
    tasks a length of their own, for an answer that is cut is no right one. rows: to those alone; what is asked beside
    a prompt changes nothing about its answer.
    """
    rows = held_out.rows if rows is None else rows
    chosen = held_out.some(rows)
    prompts, traffic = chosen.asked, chosen.traffic
    asked = [llm.render(prompt.messages) for prompt in prompts]
    limits = [task_tokens if prompt.kind == "task" else min(answer_tokens, max_tokens) for prompt in prompts]
    numbers = rows.asked.tolist()
    said = generate(llm, asked, len(HEATS), temperature=HEATS, max_tokens=limits, seed=seed, numbers=numbers)
    sampled, greedy = said[:: len(HEATS)], said[1 :: len(HEATS)]
    live = generate(llm, traffic, max_tokens=max_tokens, seed=seed, numbers=rows.traffic.tolist())
    ends = set(llm.ends.tolist())

    def judged(samples: Sequence[Sample]) -> tuple[Outcome, ...]:
        return tuple(outcomes(judge, prompts, [llm.text(sample.tokens) for sample in samples]))

    return Answers(
        sampled=judged(sampled),
        greedy=judged(greedy),
        length=np.array([len(s.tokens) for s in sampled], float),
        repeats=np.array([repeats(s.tokens) for s in sampled], bool),
        opening=tuple(s.tokens[:4] for s in sampled),
        cut=np.array(
            [len(s.tokens) == most and s.tokens[-1] not in ends for s, most in zip(greedy, limits, strict=True)], bool
        ),
        live_length=np.array([len(s.tokens) for s in live], float),
        live_kl=kl_to_base(llm, traffic, [s.tokens for s in live]),
    )


@torch.no_grad()
def kl_to_base(llm: LocalModel, prompts: Sequence[Tokens], answers: Sequence[Tokens]) -> NDArray[np.float64]:
    """KL of the model as it answers now to the base, in nats, summed along each answer; nought of the base itself."""
    found = np.zeros(len(answers))
    for batch in llm.batches(prompts, answers) if not llm.bare else ():
        rows = [prompts[i] for i in batch], [answers[i] for i in batch]
        mine = llm.response_logits(*rows)[0]
        with llm.adapter(None):
            base, _, mask = llm.response_logits(*rows)
        found[batch] = (per_token(objective.full_vocabulary_kl, mine, base) * mask).sum(1).cpu()
    return found


def repeats(tokens: Sequence[int]) -> bool:
    """Whether some 4-gram occurs more than twice."""
    grams = Counter(tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3))
    return max(grams.values(), default=0) > 2
