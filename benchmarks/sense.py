"""What a model knows of harm at the end of a prompt, beside what it says: the second sense on a real aligned model.

    python -m benchmarks.sense --model DIR --prompts DIR [--json FILE]

First `python -m benchmarks.sense_states` for each of its stages, which reads the model. Families of attacks and data sets
are parted in two halves: each is fitted on and the other tested, goals kept apart too. Layers, penalty and thresholds are of
the half fitted on alone, out of fold; figures are of the half tested. Prompts: a folder of collected ones.
"""

from __future__ import annotations

import argparse
import json
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

from benchmarks.sense_figures import LIMITS, Chosen, Direction, areas, share_over
from benchmarks.sense_prompts import Row, chosen
from benchmarks.sense_states import CACHE
from evaluation.judges.refusals import is_refusal
from guard.rule import fit_score
from guard.signals import log_odds
from online.calibration.read_out import Examples, fit, validated
from online.calibration.sense import candidates, fit_label_free, fit_sense
from online.settings.groups import CalibrateSettings

RESULT = Path("benchmarks/results/sense.json")
PLACES = ("last token of the prompt", "end of the user's turn", "last token of the user's words")
KEYWORDS = re.compile(
    r"\b(?:bomb|weapon|gun|explosive|kill|murder|suicide|poison|drug|meth|hack|malware|virus|exploit|steal|rob|fraud|scam"
    r"|phish|counterfeit|forge|launder|blackmail|stalk|harass|bully|racist|sexist|hate|terror|nazi|genocide|rape|porn|sex"
    r"|illegal|crime|criminal|unethical|jailbreak|dan|unfiltered|no restrictions|ignore (?:all )?previous)\w*", re.IGNORECASE
)  # fmt: skip
COMPARED: tuple[tuple[str, Chosen, Chosen], ...] = (
    ("bare against plain", lambda r: r.shape == "bare", lambda r: r.shape == "plain"),
    ("bare against XSTest's safe", lambda r: r.shape == "bare", lambda r: r.set == "xstest_safe"),
    ("bare of other sets against XSTest's safe", lambda r: r.shape == "bare" and r.set != "xstest_contrast",
     lambda r: r.set == "xstest_safe"),
    ("bare against JailbreakBench's benign", lambda r: r.shape == "bare", lambda r: r.set == "jbb_benign"),
    ("bare against all harmless", lambda r: r.shape == "bare", lambda r: not r.harmful),
    ("jailbroken against wrapped", lambda r: r.shape == "jailbroken", lambda r: r.shape == "wrapped"),
    ("jailbroken against plain", lambda r: r.shape == "jailbroken", lambda r: r.shape == "plain"),
    ("jailbroken against all harmless", lambda r: r.shape == "jailbroken", lambda r: not r.harmful),
)  # fmt: skip
GROUPS: tuple[tuple[str, Chosen], ...] = tuple(
    (name, lambda r, name=name: r.shape == name) for name in ("bare", "jailbroken", "plain", "wrapped", "borderline")
)


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

    def examples(self, index: NDArray[np.int64], place: int, layers: Sequence[int]) -> Examples:
        rows = [self.rows[i] for i in index]
        streams = self.streams[index, place][:, [layer - 1 for layer in layers]].astype(np.float32)
        texts = [r.shape for r in rows], [r.source for r in rows], [r.goal for r in rows]
        return Examples(streams, np.array([r.harmful for r in rows]), *texts)

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
    return Read(rows, streams, first["tokens"].tolist(), shares, begun, refused, others), len(every) - len(rows)


def parted(rows: Sequence[Row], half: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(fitted on, tested): one half without the goals of the other, and the other."""
    goals = {row.goal for row in rows if row.half != half}
    fitted = [i for i, row in enumerate(rows) if row.half == half and row.goal not in goals]
    return np.array(fitted), np.array([i for i, row in enumerate(rows) if row.half != half])


def by_layer(seen: Read) -> list[dict[str, Any]]:
    """AUROC of single layers at each place."""
    found = []
    depth = seen.streams.shape[2]
    for place, title in enumerate(PLACES):
        for layer in tqdm(range(4, depth + 1, 2), title, unit="layer"):
            directions = []
            for half in (0, 1):
                fitted, tested = parted(seen.rows, half)
                examples = seen.examples(fitted, place, (layer,))
                penalty = validated(examples, (0,)).penalty
                scores = fit(examples, (0,), (penalty,))[0].of(seen.examples(tested, place, (layer,)).streams)
                rows = [seen.rows[i] for i in tested]
                directions.append(Direction([], rows, {}, {"h": scores}))
            row = {name: areas(directions, "h", low, high).to_dict() for name, high, low in COMPARED}
            found.append({"place": title, "layer": layer, **row})
    return found


def direction(seen: Read, half: int) -> tuple[Direction, dict[str, Any]]:
    """All signals, fitted on one half."""
    fitted, tested = parted(seen.rows, half)
    settings = CalibrateSettings(borderline=5.0)
    layers = candidates(seen.streams.shape[2])
    examples, others = seen.examples(fitted, 0, layers), seen.examples(tested, 0, layers)
    classes = {name: getattr(settings, name) for name in ("plain", "wrapped", "borderline")}
    found = fit_sense(examples, layers, classes, settings)
    assert found is not None, "a half has many sources"
    at = list(found.choice.layers)
    known = {"h": found.h}
    scores = {"h": np.array([found.sense.read(x) for x in others.streams[:, at]], dtype=float)}
    masses = np.array([log_odds(x) for x in seen.masses(fitted)])
    known["refusal mass"], scores["refusal mass"] = masses[fitted], masses[tested]
    known["mass + h"], scores["mass + h"] = both(known, scores, examples.harmful)
    for name, values in seen.others.items():
        known[name], scores[name] = values[fitted], values[tested]
    answered = fitted[np.isfinite(seen.refused[fitted])]
    plain = seen.examples(answered, 0, layers)
    free = fit_label_free(plain.streams, layers, seen.masses(fitted)[answered], seen.refused[answered], settings)
    if free is not None:
        at = list(free.choice.layers)
        for kept, some in ((known, examples), (scores, others)):
            kept["h without labels"] = np.array([free.sense.read(x) for x in some.streams[:, at]], dtype=float)
    counts = Counter(row.shape for row in (seen.rows[i] for i in tested))
    told = {"fitted": len(fitted), "tested": dict(counts), "layers": list(found.sense.layers),
            "penalty": found.choice.penalty, "criterion": found.choice.criterion,
            "without_labels": None if free is None else {"prompts": len(free.h), "layers": list(free.sense.layers)},
            "missing": list(found.missing)}  # fmt: skip
    return Direction([seen.rows[i] for i in fitted], [seen.rows[i] for i in tested], known, scores), told


def both(
    known: dict[str, NDArray[np.float64]], scores: dict[str, NDArray[np.float64]], harmful: NDArray[np.bool_]
) -> list[NDArray[np.float64]]:
    """Logistic regression of mass and h, fitted on h out of fold; the names are those of two of the rule's signals."""
    pairs = [np.column_stack([side["refusal mass"], side["h"]]) for side in (known, scores)]
    whole = np.isfinite(pairs[0]).all(1)
    score = fit_score(("first", "mass"), pairs[0][whole & harmful], pairs[0][whole & ~harmful])
    weight = np.array([score.weights["first"], score.weights["mass"]])
    return [pair @ weight + score.bias for pair in pairs]


def table(directions: Sequence[Direction], names: Sequence[str]) -> dict[str, Any]:
    """AUROC of each comparison, and at each threshold the share over it of each kind of prompt and of each family."""
    families = sorted({row.source for d in directions for row in d.tested if row.shape == "jailbroken"})
    found: dict[str, Any] = {}
    for name in tqdm(names, "figures", unit="signal"):
        found[name] = {title: areas(directions, name, low, high).to_dict() for title, high, low in COMPARED}
        for limit, limits in LIMITS.items():
            found[name][f"over at {limit}"] = {
                group: share_over(directions, name, limits, of_group).to_dict() for group, of_group in GROUPS
            }
        found[name]["families"] = {
            family: {
                "auroc": areas(directions, name, lambda r: r.shape == "wrapped",
                               lambda r, f=family: r.source == f and r.shape == "jailbroken").to_dict(),
                **{limit: share_over(directions, name, limits,
                                     lambda r, f=family: r.source == f and r.shape == "jailbroken").to_dict()
                   for limit, limits in LIMITS.items()},
            }
            for family in families
        }  # fmt: skip
    return found


def only_where_all_are_read(some: Direction) -> Direction:
    """The same, scores NaN where one signal was not read: so that all are compared on the same prompts."""
    known, scores = (
        {name: np.where(np.isfinite(np.array(list(side.values()))).all(0), x, np.nan) for name, x in side.items()}
        for side in (some.known, some.scores)
    )
    return Direction(some.fitted, some.tested, known, scores)


def main() -> None:
    parser = argparse.ArgumentParser(description="the second sense on a real aligned model")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    seen, long = read(args.model, args.prompts)
    pairs = [direction(seen, half) for half in (0, 1)]
    directions = [some for some, _ in pairs]
    names = list(directions[0].scores)
    whole = [name for name in names if all(np.isfinite(d.scores[name]).all() for d in directions)]
    result = {
        "model": args.model.name,
        "states": "bfloat16",
        "prompts": {f"{s}, {r}": n for (s, r), n in sorted(Counter((row.shape, row.set) for row in seen.rows).items())},
        "too_long": long,
        "fits": [told for _, told in pairs],
        "all prompts": table(directions, whole),
        "prompts that all signals were read of": table([only_where_all_are_read(d) for d in directions], names),
        "by layer": by_layer(seen),
    }
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
