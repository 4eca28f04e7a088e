"""Signals of `benchmarks.sense`: what was read of a model, and each signal fitted on one half and scored on the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoTokenizer

from benchmarks.sense_figures import Direction
from benchmarks.sense_prompts import Row, chosen
from benchmarks.sense_states import CACHE
from evaluation.judges.refusals import is_refusal
from guard.rule import fit_score
from guard.signals import log_odds
from online.calibration.read_out import Examples
from online.calibration.sense import SURE, Fitted, candidates, fit_label_free, fit_sense
from online.settings.groups import CalibrateSettings

KEYWORDS = re.compile(
    r"\b(?:bomb|weapon|gun|explosive|kill|murder|suicide|poison|drug|meth|hack|malware|virus|exploit|steal|rob|fraud|scam"
    r"|phish|counterfeit|forge|launder|blackmail|stalk|harass|bully|racist|sexist|hate|terror|nazi|genocide|rape|porn|sex"
    r"|illegal|crime|criminal|unethical|jailbreak|dan|unfiltered|no restrictions|ignore (?:all )?previous)\w*", re.IGNORECASE
)  # fmt: skip


SENSED = [0, 2]
"""Of the places that were read those that a sense may read: the prompt's end and that of the user's words."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What was read of the model. streams: (rows, places, layers, hidden); the rest by row, NaN where it was not read.
    shares: of first tokens that answers began with, (rows, tokens)."""

    rows: list[Row]
    streams: NDArray[np.float16]
    tokens: list[int]
    shares: NDArray[np.float32]
    begun: NDArray[np.float64]
    refused: NDArray[np.float64]
    others: dict[str, NDArray[np.float64]]

    def examples(self, index: NDArray[np.int64], streams: NDArray[np.float16]) -> Examples:
        """The rows of this index, with these streams of all rows, (rows, layers, hidden)."""
        rows = [self.rows[i] for i in index]
        texts = [r.shape for r in rows], [r.source for r in rows], [r.goal for r in rows]
        return Examples(streams[index].astype(np.float32), np.array([r.harmful for r in rows]), *texts)

    def masses(self, fitted: NDArray[np.int64]) -> NDArray[np.float64]:
        """First-token refusal mass, (rows,): shares weighed by how often answers that began so refused among the fitted."""
        begun = self.begun[fitted]
        weight = [np.nansum(self.refused[fitted][begun == t]) / max(1, (begun == t).sum()) for t in self.tokens]
        return self.shares @ np.array(weight)


def read(model: Path, prompts: Path) -> tuple[Read, int]:
    """All that is there, and how many prompts were too long."""
    every = chosen(prompts)
    rows = [row for row in every if (CACHE / "streams" / f"{row.id}.npz").exists()]
    streams = np.stack(
        [np.load(CACHE / "streams" / f"{row.id}.npz")["states"] for row in tqdm(rows, "streams", unit="prompt")]
    )
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    begun, refused, entropy, perplexity, odds = np.full((5, len(rows)), np.nan)
    for i, row in enumerate(rows):
        if (path := CACHE / "answers" / f"{row.id}.npz").exists():
            answer = np.load(path)
            begun[i], entropy[i], perplexity[i] = answer["tokens"][0], answer["entropies"].mean(), -answer["logprobs"].mean()
            refused[i] = is_refusal(tokenizer.decode(answer["tokens"], skip_special_tokens=True))
        if (path := CACHE / "asked" / f"{row.id}.npz").exists():
            odds[i] = float(np.load(path)["odds"])
    first = np.load(CACHE / "first.npz")
    place = {name: i for i, name in enumerate(first["ids"].tolist())}
    shares = first["shares"][[place[row.id] for row in rows]]
    others = {
        "asked: is this harmful?": odds,
        "keywords": np.array([float(len(KEYWORDS.findall(row.text))) for row in rows]),
        "mean entropy of an answer": entropy,
        "log perplexity of an answer": perplexity,
    }
    others = {name: x for name, x in others.items() if np.isfinite(x).any()}  # a stage may not have been run
    return Read(rows, streams, first["tokens"].tolist(), shares, begun, refused, others), len(every) - len(rows)


def parted(rows: Sequence[Row], halves: Sequence[int], half: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(fitted on, tested): one half without the goals of the other, and the other."""
    goals = {row.goal for row, at in zip(rows, halves, strict=True) if at != half}
    fitted = [i for i, (row, at) in enumerate(zip(rows, halves, strict=True)) if at == half and row.goal not in goals]
    return np.array(fitted), np.array([i for i, at in enumerate(halves) if at != half])


def direction(seen: Read, halves: Sequence[int], half: int) -> tuple[Direction, dict[str, Any]]:
    """All signals, fitted on one half."""
    fitted, tested = parted(seen.rows, halves, half)
    settings = CalibrateSettings(borderline=5.0)
    layers = candidates(seen.streams.shape[2])
    at = [[seen.examples(some, seen.streams[:, place, [layer - 1 for layer in layers]]) for place in SENSED]
          for some in (fitted, tested)]  # fmt: skip
    examples = at[0][0]
    classes = {name: getattr(settings, name) for name in ("plain", "wrapped", "borderline")}
    found = fit_sense(at[0], layers, classes, settings)
    assert found is not None, "a half has many sources"
    known, scores = {"h": found.h}, {"h": sensed(found, at[1], layers)}
    masses = np.array([log_odds(x) for x in seen.masses(fitted)])
    known["refusal mass"], scores["refusal mass"] = masses[fitted], masses[tested]
    known["mass + h"], scores["mass + h"] = both(known, scores, examples.harmful)
    for name, values in seen.others.items():
        known[name], scores[name] = values[fitted], values[tested]
    weighed = seen.masses(fitted)[fitted]
    refused = np.where(np.isfinite(seen.refused[fitted]), seen.refused[fitted], weighed >= SURE)  # not all were answered
    free = fit_label_free(examples.streams, layers, weighed, refused, settings)
    if free is not None:
        for kept, some in ((known, at[0]), (scores, at[1])):
            kept["h without labels"] = sensed(free, some, layers)
    counts = Counter(row.shape for row in (seen.rows[i] for i in tested))
    told = {"fitted": len(fitted), "tested": dict(counts), "layers": list(found.sense.layers),
            "places": list(found.sense.places),
            "penalty": [one.penalty for one in found.choices],
            "criterion": [one.criterion for one in found.choices],
            "surely_refused": int(((weighed >= SURE) & (refused == 1)).sum()),
            "missing": list(found.missing)}  # fmt: skip
    return Direction([seen.rows[i] for i in fitted], [seen.rows[i] for i in tested], known, scores), told


def sensed(fitted: Fitted, places: Sequence[Examples], layers: Sequence[int]) -> NDArray[np.float64]:
    """h of the same examples at each place, whose streams are after these layers."""
    at = [layers.index(number) for number in fitted.sense.layers]
    streams = np.stack([some.streams[:, at] for some in places[: len(fitted.sense.places)]], 1)
    return np.array([fitted.sense.read(x) for x in streams], dtype=float)


def both(
    known: dict[str, NDArray[np.float64]], scores: dict[str, NDArray[np.float64]], harmful: NDArray[np.bool_]
) -> list[NDArray[np.float64]]:
    """Logistic regression of mass and h, fitted on h out of fold; the names are those of two of the rule's signals."""
    pairs = [np.column_stack([side["refusal mass"], side["h"]]) for side in (known, scores)]
    whole = np.isfinite(pairs[0]).all(1)
    score = fit_score(("first", "mass"), pairs[0][whole & harmful], pairs[0][whole & ~harmful])
    weight = np.array([score.weights["first"], score.weights["mass"]])
    return [pair @ weight + score.bias for pair in pairs]
