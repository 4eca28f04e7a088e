"""What a model knows of harm at the end of a prompt, beside what it says: the harm sense on a real aligned model.

    python -m benchmarks.sense --model DIR --prompts DIR [--json FILE]

First `python -m benchmarks.sense_states` for each of its stages, which reads the model. Families of attacks and data sets
are parted in two halves: each is fitted on and the other tested, goals kept apart too. Layers, penalty and thresholds are of
the half fitted on alone, out of fold; figures are of the half tested. Prompts: a folder of collected ones.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.sense_bundled import bundled
from benchmarks.sense_figures import LIMITS, Chosen, Direction, areas, share_over
from benchmarks.sense_prompts import Row
from benchmarks.sense_signals import Read, direction, parted, read
from online.calibration.read_out import fit, spreads, validated
from online.calibration.sense import candidates

RESULT = Path("benchmarks/results/sense.json")
PLACES = ("last token of the prompt", "end of the user's turn", "last token of the user's words")
OTHER_HALVES = 8
"""Further splits of the sources into halves, drawn by chance."""
LEAST = 25
"""Prompts of each shape in each of those halves at least."""
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


def linear(seen: Read, streams: NDArray[np.float16]) -> dict[str, Any]:
    """AUROC of a read-out of all of these streams together, (rows, streams, hidden), of the two halves."""
    directions = []
    for half in (0, 1):
        fitted, tested = parted(seen.rows, [row.half for row in seen.rows], half)
        examples = seen.examples(fitted, streams)
        every = tuple(range(streams.shape[1]))
        read_out = fit(examples, every, (validated(examples, every).penalty,))[0]
        scores = read_out.of(streams[tested].astype(np.float32))
        directions.append(Direction([], [seen.rows[i] for i in tested], {}, {"h": scores}))
    return {name: areas(directions, "h", low, high).to_dict() for name, high, low in COMPARED}


def by_layer(seen: Read) -> list[dict[str, Any]]:
    """Of single layers at each place."""
    layers = range(4, seen.streams.shape[2] + 1, 2)
    todo = [(place, layer) for place in range(len(PLACES)) for layer in layers]
    return [
        {"place": PLACES[place], "layer": layer, **linear(seen, seen.streams[:, place, [layer - 1]])}
        for place, layer in tqdm(todo, "layers", unit="layer")
    ]


def by_place(seen: Read) -> list[dict[str, Any]]:
    """Of the widest spread of layers, at each place and at the prompt's end with one of the others."""
    layers = candidates(seen.streams.shape[2])
    spread = [layers[i] - 1 for i in spreads(len(layers))[-1]]
    found = []
    for places in ((0,), (1,), (2,), (0, 1), (0, 2)):
        streams = np.concatenate([seen.streams[:, place][:, spread] for place in places], 1)
        found.append({"places": [PLACES[place] for place in places], **linear(seen, streams)})
    return found


def other_halves(seen: Read) -> dict[str, Any]:
    """AUROC of h where other sources are fitted on: mean, least and largest over splits drawn by chance."""
    sources = sorted({row.source for row in seen.rows})
    found: dict[str, list[float]] = {title: [] for title, _, _ in COMPARED}
    layers, luck = Counter[tuple[int, ...]](), Random(0)
    for _ in tqdm(range(OTHER_HALVES), "other halves", unit="split"):
        while True:
            first = set(luck.sample(sources, len(sources) // 2))
            halves = [0 if row.source in first else 1 for row in seen.rows]
            counts = Counter((row.shape, half) for row, half in zip(seen.rows, halves, strict=True))
            if len(counts) == 10 and min(counts.values()) >= LEAST:
                break
        pairs = [direction(seen, halves, half) for half in (0, 1)]
        layers.update(tuple(told["layers"]) for _, told in pairs)
        for title, high, low in COMPARED:
            found[title].append(areas([some for some, _ in pairs], "h", low, high).estimate)
    spread = {t: {"mean": float(np.mean(x)), "least": min(x), "largest": max(x)} for t, x in found.items()}
    return {"splits": OTHER_HALVES, "layers": {str(list(k)): n for k, n in layers.items()}, **spread}


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
        found[name]["families"] = {family: of_family(directions, name, family) for family in families}
    return found


def of_family(directions: Sequence[Direction], name: str, family: str) -> dict[str, Any]:
    """Attacks of one family against harmless prompts in its own wrappers and in all, and the share over each threshold."""

    def attacks(row: Row) -> bool:
        return row.source == family and row.shape == "jailbroken"

    def own(row: Row) -> bool:
        return row.source == family and row.shape == "wrapped"

    return {
        "against its own wrappers": areas(directions, name, own, attacks).to_dict(),
        "against wrapped": areas(directions, name, lambda row: row.shape == "wrapped", attacks).to_dict(),
        **{limit: share_over(directions, name, limits, attacks).to_dict() for limit, limits in LIMITS.items()},
    }


def only_where_all_are_read(some: Direction) -> Direction:
    """The same, scores NaN where one signal was not read: so that all are compared on the same prompts."""
    known, scores = (
        {name: np.where(np.isfinite(np.array(list(side.values()))).all(0), x, np.nan) for name, x in side.items()}
        for side in (some.known, some.scores)
    )
    return Direction(some.fitted, some.tested, known, scores)


def main() -> None:
    parser = argparse.ArgumentParser(description="the harm sense on a real aligned model")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    seen, long = read(args.model, args.prompts)
    pairs = [direction(seen, [row.half for row in seen.rows], half) for half in (0, 1)]
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
        "other halves": other_halves(seen),
        "by place": by_place(seen),
        "by layer": by_layer(seen),
        "bundled model": bundled(),
    }
    args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
