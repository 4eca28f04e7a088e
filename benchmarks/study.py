"""The before/after study: what learning does to two base models, and what no training would have done.

    python -m benchmarks.study [--seeds 0 1] [--limit N] [--out benchmarks/results/study.json]

For each base seed: calibrate on the calibration split, learn from the unlabelled traffic suite, then ask every prompt of the
test split at temperature 1 (harmful ones four times, for their cells are small) and once greedily, of the base, of each
preset and of the no-training rule (refuse when the base's tree mass is above the calibrated threshold). No threshold or
setting is chosen on the test split. The gate is left out: this measures what learning does, not what would be let through.
Finished parts are kept in .cache/study and reused.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import models
from guard.calibration import Calibration
from models.recipe.__main__ import main as recipe
from online.calibrate import calibrate
from online.evaluation import Figure, GrammarJudge, Outcome, Prompt, load_suite, summarise, to_dict
from online.evaluation.statistics import wilson
from online.fingerprint import fingerprint
from online.gap import entropy_gap
from online.policy import Policy
from online.selector import select
from online.settings import UpdateSettings
from online.trainer import ADAPTER, Trainer

CACHE = Path(".cache/study")
RESULT = Path("benchmarks/results/study.json")
PRESETS = {"anchored": {}, "paper": {"tune": "lora", "group_size": 8, "learning_rate": 2e-3, "max_tokens": 64}}
"""Runs and what is set in them: in 30 steps at the published learning rate of 1e-6 a model this small would not move."""
CHUNK = 512
MAX_TOKENS = 96
DRAWS = 4
"""Responses at temperature 1 to each harmful prompt."""


def base_model(seed: int) -> Path:
    """The bundled model for seed 0, else one trained by the same recipe from another seed."""
    if seed == 0:
        return models.bundled()
    folder = CACHE / f"base{seed}"
    if not (folder / "config.json").exists():
        recipe(["build", "--seed", str(seed), "--out", str(folder)])
    return folder


def answers(policy: Policy, prompts: list[Prompt], temperature: float, seed: int, what: str) -> list[Outcome]:
    """One judged response a prompt."""
    judge, found = GrammarJudge(), []
    for start in tqdm(range(0, len(prompts), CHUNK), desc=what, unit="chunk"):
        chunk = prompts[start : start + CHUNK]
        asked = [policy.render(prompt.messages) for prompt in chunk]
        samples = policy.generate(asked, 1, temperature=temperature, max_tokens=MAX_TOKENS, seed=seed + start)
        found += [judge.judge(p, policy.text(s.tokens)) for p, s in zip(chunk, samples, strict=True)]
    return found


def drawn(prompts: list[Prompt]) -> list[Prompt]:
    """What is asked at temperature 1: every prompt, the harmful ones DRAWS times."""
    return [prompt for prompt in prompts for _ in range(DRAWS if prompt.kind == "harmful" else 1)]


def both(policy: Policy, prompts: list[Prompt], seed: int, what: str) -> dict[str, list[Outcome]]:
    return {
        "sampled": answers(policy, drawn(prompts), 1.0, seed, f"{what}, sampled"),
        "greedy": answers(policy, prompts, 0.0, seed, f"{what}, greedy"),
    }


def figures(prompts: list[Prompt], outcomes: dict[str, list[Outcome]]) -> dict:
    """Both modes' figures; intervals count prompts, not the draws of one prompt, which are alike."""
    found = {"sampled": summarise(drawn(prompts), outcomes["sampled"]), "greedy": summarise(prompts, outcomes["greedy"])}
    for name, figure in found["sampled"].items():
        if name.startswith("dsr") and isinstance(figure, Figure):
            found["sampled"][name] = wilson(figure.estimate * (figure.n // DRAWS), figure.n // DRAWS)
    return {mode: to_dict(summary) for mode, summary in found.items()}


def kept(name: str, make: Callable[[], dict]) -> dict:
    """A finished part from the cache, or made now and kept."""
    path = CACHE / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def untrained(folder: Path, seed: int, prompts: list[Prompt]) -> dict:
    """The base and the no-training rule on top of its answers, with the calibration (labelled) both go by."""
    policy, suite = Policy.load(folder), load_suite(models.suite("calibration"))
    calibration = calibrate(policy, "base", suite, GrammarJudge(), fingerprint(folder), seed=seed)
    gap = entropy_gap(policy, suite, GrammarJudge(), seed=seed)
    base = both(policy, prompts, seed, f"base {seed}")
    asked = [policy.render(prompt.messages) for prompt in prompts]
    with torch.no_grad():
        mass = policy.tree_mass(asked, calibration.openings).double()
    refuse = {p.id: no for p, no in zip(prompts, (mass > calibration.tree_mass.high).tolist(), strict=True)}
    asked_as = {"sampled": drawn(prompts), "greedy": prompts}
    rule = {
        name: [Outcome.REFUSAL if refuse[p.id] else o for p, o in zip(asked_as[name], found, strict=True)]
        for name, found in base.items()
    }
    return {
        "calibration": calibration.to_json(),
        "gap_auroc": gap.auroc.to_dict(),
        "base": figures(prompts, base),
        "no training": figures(prompts, rule),
    }


def trained(folder: Path, seed: int, preset: str, calibration: Calibration, prompts: list[Prompt]) -> dict:
    """What one label-free update from the traffic suite makes of the base."""
    policy, settings = Policy.load(folder), UpdateSettings(preset=preset, seed=seed, **PRESETS[preset])
    traffic = [policy.render(prompt.messages) for prompt in load_suite(models.suite("traffic"))]
    started = time.monotonic()
    selection = select(policy, traffic, calibration.openings, calibration.tree_mass)
    trainer = Trainer(policy, selection, calibration.openings, settings)
    for _ in tqdm(range(settings.steps), desc=f"learning, {preset} {seed}", unit="step"):
        trainer.advance()
    seconds = time.monotonic() - started
    with policy.adapter(ADAPTER):
        return figures(prompts, both(policy, prompts, seed, f"{preset} {seed}")) | {"seconds": round(seconds, 1)}


def one_base(seed: int, prompts: list[Prompt]) -> dict:
    """Every run on one base model."""
    folder, name = base_model(seed), f"{len(prompts)}-seed{seed}"
    first = kept(f"{name}-base", lambda: untrained(folder, seed, prompts))
    calibration = Calibration.from_json(first["calibration"])
    runs = {"base": first["base"], "no training": first["no training"]}
    for preset in PRESETS:
        runs[preset] = kept(f"{name}-{preset}", partial(trained, folder, seed, preset, calibration, prompts))
    return {"seed": seed, "gap_auroc": first["gap_auroc"], "tau": calibration.tree_mass.high, "runs": runs}


ROWS = (
    ("DSR plain", "dsr_plain"),
    ("DSR seen", "dsr_seen"),
    ("DSR SIRL only", "dsr_sirl_only"),
    ("DSR base only", "dsr_base_only"),
    ("**DSR never seen**", "dsr_unseen"),
    ("DSR new topic", "dsr_new_topic"),
    ("over-refusal plain", "plain"),
    ("over-refusal wrapped", "wrapped"),
    ("over-refusal borderline", "borderline"),
    ("utility", "utility"),
    ("garbled", "garbled"),
)


def markdown(result: dict) -> str:
    """The table of the README: percent, temperature 1 / greedy, a column a base seed and run."""
    names = [(base, name) for base in result["bases"] for name in base["runs"]]
    lines = ["| % at T=1 / greedy | " + " | ".join(f"{name}, seed {base['seed']}" for base, name in names) + " |"]
    lines.append("| --- |" + " --- |" * len(names))
    for label, key in ROWS:
        cells = []
        for base, name in names:
            pair = []
            for mode in ("sampled", "greedy"):
                found = base["runs"][name][mode]
                figure = found.get(key) or found["over_refusal"][key]
                pair.append(f"{100 * figure['estimate']:.0f}")
            cells.append(" / ".join(pair))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="before/after on the test split, two base seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--limit", type=int, help="test prompts at most, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    CACHE.mkdir(parents=True, exist_ok=True)
    prompts = load_suite(models.suite("test"))[: args.limit]
    bases = [one_base(seed, prompts) for seed in args.seeds]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}",
        "prompts": len(prompts),
        "bases": bases,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
