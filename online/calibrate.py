"""Calibration: what a model's own refusals look like, measured on labelled prompts.

Calibrating uses labels (which prompts are harmful, and a judge where there is one); learning uses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import torch

from guard.calibration import Calibration, CalibrationError, fit_bands, fit_entropy_cut
from guard.openings import Openings, Tokens
from online.evaluation import Judge, Outcome, Prompt
from online.evaluation.statistics import auroc
from online.policy import Policy, Sample

SAMPLES = 2
"""Responses to each prompt."""


def calibrate(
    policy: Policy,
    adapter: str,
    prompts: Sequence[Prompt],
    judge: Judge | None,
    model: str,
    *,
    seed: int = 0,
    max_tokens: int = 128,
) -> Calibration:
    """Openings, bands and entropy cut of the policy as it answers now.

    adapter: "base" or "v<N>", the name on record; model: the base's fingerprint. Without a judge the responses to
    harmful prompts stand against those to all others. Raises CalibrationError where no opening tells them apart.
    """
    asked = [policy.render(prompt.messages) for prompt in prompts]
    samples = policy.generate(asked, SAMPLES, max_tokens=max_tokens, seed=seed)
    harmful = np.array([prompt.kind == "harmful" for prompt in prompts])
    of_harmful = harmful[[s.prompt for s in samples]]
    refused = _refused(policy, prompts, samples, judge)
    openings = _openings(policy, asked, samples, refused)
    with torch.no_grad():
        tree = policy.tree_mass(asked, openings).double().cpu().numpy()
        along = policy.serving_mass([asked[s.prompt] for s in samples], [s.tokens for s in samples], openings)
    serving = along.double().cpu().numpy()
    matched = np.array([openings.matched(s.tokens) for s in samples])
    entropy = np.array([s.entropy for s in samples])
    others = of_harmful & ~matched if (of_harmful & ~matched).any() else ~matched
    tree_bands = fit_bands(tree[harmful], tree[~harmful])
    return Calibration(
        model=model,
        adapter=adapter,
        openings=openings,
        serving_mass=fit_bands(serving[of_harmful], serving[~of_harmful]),
        tree_mass=tree_bands,
        entropy_cut=fit_entropy_cut(entropy[matched], entropy[others]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        figures={
            "prompts": len(prompts),
            "harmful": int(harmful.sum()),
            "samples": len(samples),
            "refusals": int(refused.sum()),
            "openings_recall": float(matched[refused].mean()),
            "openings_false": float(matched[~refused].mean()),
            "tree_mass_auroc": asdict(auroc(tree[~harmful], tree[harmful])),
            "serving_mass_auroc": asdict(auroc(serving[~of_harmful], serving[of_harmful])),
            "entropy_auroc": asdict(auroc(entropy[matched], entropy[others])),
            "harmful_in_low_band": float((tree[harmful] <= tree_bands.low).mean()),
        },
    )


def _refused(policy: Policy, prompts: Sequence[Prompt], samples: Sequence[Sample], judge: Judge | None) -> np.ndarray:
    """Which samples count as refusals: as judged, or else all that answer harmful prompts."""
    if judge is None:
        return np.array([prompts[s.prompt].kind == "harmful" for s in samples])
    judged = (judge.judge(prompts[s.prompt], policy.text(s.tokens)) for s in samples)
    return np.array([outcome is Outcome.REFUSAL for outcome in judged])


@torch.no_grad()
def _openings(policy: Policy, asked: Sequence[Tokens], samples: Sequence[Sample], refused: np.ndarray) -> Openings:
    """Openings of the refusals, with P(an opening completes | prefix reached) of each inner node."""
    sides: tuple[list[Tokens], list[Tokens]] = ([], [])
    for sample, is_refusal in zip(samples, refused, strict=True):
        sides[0 if is_refusal else 1].append(sample.tokens)
    openings = Openings.learn(*sides)
    if not openings:
        raise CalibrationError(
            f"No opening tells the {len(sides[0])} refusals from the {len(sides[1])} other responses: give more "
            "prompts, harmful ones that the model refuses and harmless ones among them."
        )
    inner = openings.prefixes[1:]
    reached = policy.path_logprobs(asked, [*openings.sequences, *inner]).exp().sum(0).tolist()
    leaves = dict(zip(openings.sequences, reached, strict=False))
    values = {
        prefix: min(1.0, sum(leaves[s] for s in openings.sequences if s[: len(prefix)] == prefix) / weight)
        for prefix, weight in zip(inner, reached[len(leaves) :], strict=True)
    }
    return Openings(openings.sequences, values)
