"""The table of docs/evidence/evaluation.md: our guard and our learner beside known defences, attacked by `sirl eval` alike.

    python -m benchmarks.evaluation [--seeds 0 1 2] [--limit 60] [--queries 6] [--folder .cache/evaluation]

For each seed an adapter is learned from the traffic suite by the preset `anchored` and calibrated. Then everybody is asked
the same at temperature 1: the bare bundled model, known defences before it, our guard enforcing over it, each seed's adapter
bare and with the guard over it; and the first adapter with the guard over it under every attack that needs no other model,
with three times the budget. A row is pooled over seeds; its intervals are bootstrapped over goals and prompts that are
alike. What was asked is kept in the folder, so that a run that was cut off, or has more seeds, goes on. The table goes to
standard output, figures of every cell into benchmarks/results/evaluation.json, and the plot into docs/images/evaluation.svg.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

import models
from benchmarks.science.base import CACHE, Base
from benchmarks.science.runs import learn, settings_of, traffic
from evaluation import load_suite
from evaluation.attempt import Attempt
from evaluation.campaign import reread
from evaluation.command.evaluation import plain
from evaluation.judge import Outcome
from evaluation.peers.perplexity import threshold
from evaluation.peers.scorer import Scorer
from evaluation.scorecard import scorecard, share
from evaluation.svg import COLOURS, STYLE, standalone
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.registry.registry import Registry
from online.state.directory import StateDir
from online.state.files import write_atomic
from online.training.trainer import ADAPTER
from serving.cli.main import main as sirl
from serving.demo.server import MODEL, serving

RESULTS, PLOT = Path("benchmarks/results/evaluation.json"), Path("docs/images/evaluation.svg")
ATTACKS = (
    *("direct", "best_of_n", "fuzzing", "prefix_injection", "refusal_suppression"),
    *("persona", "authority", "past_tense", "nested_fiction", "payload_splitting"),
)
SHOWN = ("best_of_n", "fuzzing")
"""Attacks that try again, each with a column of its own."""
MISTAKEN = 0.01
"""Share of harmless validation prompts over the perplexity filter's threshold."""
DEFENCES = {
    "keyword": "keyword guard (its default list)",
    "reminder": "self-reminder",
    "perplexity": "perplexity filter (1% on validation)",
    "best-of:4": "best of 4, by entropy",
    "smooth:n=6,q=10": "SmoothLLM (n = 6, q = 10)",
}
BARE, GUARD, LEARNER, BOTH = "bare model", "our guard", "our learner (`anchored`)", "guard over learner"
HARDEST = f"{BOTH}, all attacks"
PORT = 18431
"""A fixed one, for an evaluation that goes on asks the same address."""
OURS = (GUARD, LEARNER, BOTH)
ORDER = (BARE, *DEFENCES.values(), *OURS)


def learned(state: StateDir, seeds: Sequence[int]) -> dict[int, str]:
    """By seed, the name of an adapter in the registry: learned, calibrated, and pinned to be served."""
    registry, folder = Registry(state, fingerprint(models.bundled())), models.bundled()
    base = Base(0, folder, load_suite(models.suite("test")))
    note = state.path / "adapters.json"
    known: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    for seed in seeds:
        if str(seed) in known:
            continue
        llm = base.llm()
        learn(base.part, llm, traffic(), settings_of("anchored", seed), f"seed {seed}")
        made = state.path / f"adapter-{seed}"
        made.mkdir(exist_ok=True)
        llm.save_adapter(ADAPTER, made)
        known[str(seed)] = f"v{registry.import_adapter(made, base_dir=folder, max_rank=16)}"
        write_atomic(note, json.dumps(known))
    names = {seed: known[str(seed)] for seed in seeds}
    for name in ("base", *names.values()):
        if not registry.calibration_path(name).exists():
            done("calibrate", "--adapter", name, "--state-dir", str(state.path))
    for name in names.values():
        registry.pin(int(name[1:]), actor="benchmark")
    return names


def done(*words: str) -> None:
    """One command of `sirl`."""
    if sirl(list(words)):
        raise SystemExit(f"sirl {words[0]} did not end well")


def asked(folder: Path, state: StateDir, names: dict[int, str], args: argparse.Namespace) -> dict[str, list[Attempt]]:
    """Everybody's attempts, by row."""
    folder = folder / f"{args.limit}-prompts-{args.queries}-queries"
    usual = ("--max-tokens", "96", "--at-once", "48", "--judge", "grammar", "--seeds")
    words = ("--limit", str(args.limit), "--queries", str(args.queries), "--attacks", ",".join(ATTACKS), *usual)
    every = [str(seed) for seed in names]
    scorer = Scorer(LocalModel.load(models.bundled()), 0)
    harmless = [p for p in load_suite(models.suite("validation")) if p.kind != "harmful"]
    limit = threshold([scorer(p.text) for p in harmless], MISTAKEN)
    specs = {spec: f"perplexity:{models.bundled()}@{limit:.2f}" if spec == "perplexity" else spec for spec in DEFENCES}
    rows: dict[str, list[Attempt]] = {}
    for mode, bare, taught in (("observe", BARE, LEARNER), ("enforce", GUARD, BOTH)):
        flags = ("--guard-mode", mode, "--release-pins", str(len(names)), "--guard-leeway", "anything")
        with serving(state.path, flags, PORT) as server:
            url = ("eval", "--url", f"{server.url}/v1")
            before = [word for spec in specs.values() for word in ("--defence", spec)] if mode == "observe" else []
            out = folder / f"{mode}-base"
            done(*url, "--model", f"{MODEL}@base", "--out", str(out), *before, *words, *every)
            rows[bare] = reread(out)
            if before:
                rows |= {DEFENCES[name]: reread(out / plain(spec)) for name, spec in specs.items()}
            rows[taught] = []
            for seed, adapter in names.items():
                out = folder / f"{mode}-{adapter}"
                done(*url, "--model", f"{MODEL}@{adapter}", "--out", str(out), *words, str(seed))
                rows[taught] += reread(out)
            if mode == "enforce":
                seed, adapter = next(iter(names.items()))
                more = ("--limit", str(args.limit // 2), "--queries", str(3 * args.queries), *usual, str(seed))
                out = folder / "enforce-all"
                done(*url, "--model", f"{MODEL}@{adapter}", "--out", str(out), *more)
                rows[HARDEST] = reread(out)
    return {name: [one for one in attempts if one.seed in names] for name, attempts in rows.items()}


def pooled(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The scorecard over seeds: each asked each goal anew, and a goal's seeds are alike."""
    apart = [replace(one, prompt=f"{one.prompt}/{one.seed}", cluster=one.alike) for one in attempts]
    wrapped = [one for one in apart if one.kind == "harmful" and one.family and one.outcome is not None]
    card = scorecard(apart) | {"wrapped_dsr": share(wrapped, Outcome.REFUSAL).to_dict()}
    for signal in card["detector"].values():
        signal.pop("roc", None)
    return card


def table(cards: dict[str, dict[str, Any]]) -> str:
    """Markdown; percent, with intervals where a column is small."""
    lines = [
        "| | defended | ASR, DSR over the ten | `best_of_n`, `fuzzing` ASR | wrapped DSR | refused plain | wrapped "
        "| borderline | utility | tokens |",
        "| --- " * 10 + "|",
    ]
    for name, card in cards.items():
        means = [
            sum(card["attacks"][attack][what]["estimate"] for attack in ATTACKS) / len(ATTACKS) for what in ("asr", "dsr")
        ]
        cells = [
            f"**{name}**" if name == BOTH else name,
            within(card["defended"]),
            ", ".join(f"{100 * mean:.0f}" for mean in means),
            ", ".join(f"{100 * card['attacks'][attack]['asr']['estimate']:.0f}" for attack in SHOWN),
            f"{100 * card['wrapped_dsr']['estimate']:.0f}",
            *(f"{100 * card['over_refusal'][name]['estimate']:.0f}" for name in ("plain", "wrapped")),
            within(card["over_refusal"]["borderline"]),
            within(card["utility"]),
            f"{sum(card['tokens'].values()) / card['queries']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def within(figure: dict[str, float]) -> str:
    """A share with its interval, in percent."""
    return f"{100 * figure['estimate']:.0f} [{100 * figure['low']:.0f}, {100 * figure['high']:.0f}]"


def plot(cards: dict[str, dict[str, Any]]) -> Canvas:
    """What each defends over what it refuses of borderline prompts; crosses are intervals. Best is up and left."""
    canvas = Canvas(figsize=(7.5, 4.6), layout="constrained")
    axes: Axes = canvas.add_subplot()
    for name, card in cards.items():
        x, y = card["over_refusal"]["borderline"], card["defended"]
        colour = COLOURS["blue" if name in OURS else "ink" if name == BARE else "faint"]
        at = 100 * x["estimate"], 100 * y["estimate"]
        across, up = ([[100 * abs(one["estimate"] - one[end])] for end in ("low", "high")] for one in (x, y))
        axes.errorbar(*at, xerr=across, yerr=up, fmt="o", color=colour, markersize=5, linewidth=0.8)
        axes.annotate(name.split(" (")[0], at, xytext=(5, 5), textcoords="offset points", color=colour)
    axes.set(xlim=(-2, 100), ylim=(0, 100))
    axes.set_xlabel("borderline prompts refused, %")
    axes.set_ylabel("goals that no attack reached, %")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description="our guard and learner beside known defences, under attack")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=60, help="prompts of each class")
    parser.add_argument("--queries", type=int, default=6, help="for one goal and attack")
    parser.add_argument("--folder", type=Path, default=Path(".cache/evaluation"))
    args = parser.parse_args()
    torch.set_num_threads(2)
    CACHE.mkdir(parents=True, exist_ok=True)
    args.folder.mkdir(parents=True, exist_ok=True)
    state = StateDir(args.folder / "state")
    rows = asked(args.folder, state, learned(state, args.seeds), args)
    cards = {name: pooled(rows[name]) for name in (*ORDER, HARDEST)}
    about = {"seeds": args.seeds, "limit": args.limit, "queries": args.queries, "machine": platform.machine()}
    found = {"date": datetime.now(UTC).date().isoformat(), **about, "scores": cards}
    write_atomic(RESULTS, json.dumps(found, indent=1) + "\n")
    with rc_context(STYLE):
        PLOT.write_text(standalone(plot({name: cards[name] for name in ORDER})))
    print(table({name: cards[name] for name in ORDER}))


if __name__ == "__main__":
    main()
