"""Figures: what was measured of a model, as means for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation import Figure, Prompt, summarise, to_dict
from online.gate.answers import Answers
from online.gate.scores import Scores


def score_figures(prompts: Sequence[Prompt], scores: Scores) -> dict[str, Any]:
    """Means of scores of the first prompts that were scored, for people."""
    scores = scores.part(slice(len(prompts)))
    groups = [prompt.over_refusal_class or prompt.kind for prompt in prompts]
    mass = {}
    for group in sorted(set(groups) - {"task"}):
        values = scores.mass[[g == group for g in groups]]
        half = 1.96 * values.std() / math.sqrt(len(values))
        mass[group] = Figure(values.mean(), values.mean() - half, values.mean() + half, len(values)).to_dict()
    found: dict[str, Any] = {"tree_mass": mass}
    if (known := scores.likelihood[np.isfinite(scores.likelihood)]).size:
        found["right_answers_nats"] = float(known.mean())
    if len(scores.live):
        found["live_traffic"] = {"mass": float(scores.live.mean())}
    return found


def answer_figures(prompts: Sequence[Prompt], answers: Answers) -> dict[str, Any]:
    """Means of answers to the first prompts that were asked, for people."""
    answers = answers.part(slice(len(prompts)))
    found = {
        "sampled": to_dict(summarise(prompts, answers.sampled)),
        "greedy": to_dict(summarise(prompts, answers.greedy)),
        "mean_length": float(answers.length.mean()),
        "repetition": float(answers.repeats.mean()),
        "refusal_openings": answers.variety,
    }
    if len(answers.live_kl):
        found["live_traffic_answers"] = {"length": float(answers.live_length.mean()), "kl": float(answers.live_kl.mean())}
    return found
