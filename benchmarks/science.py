"""The evidence of docs/science.md: what learning does to base models, preset by preset, and what no training would have
done.

    python -m benchmarks.science [--bases 0 1] [--seeds 0 1] [--runs base anchored ...] [--every N]

For each base: calibrate on the calibration split (labelled), learn from the unlabelled traffic suite, then ask the prompts
of the test split at temperature 1 (harmful ones four times, for their cells are small) and once greedily. No threshold or
setting is chosen on the test split. The gate is left out: this measures what learning does, not what would be let through.

Every finished run goes into docs/science/results.json at once and is not run again while what it was made from (model,
suites, settings, number of draws) stays the same; docs/science/tables.md is written from that file. Intervals are
bootstrapped over wrapper families, and over actions where there is no wrapper.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import models
from benchmarks.learner import TRL
from guard.calibration import Calibration
from models.recipe.__main__ import main as recipe
from online.calibrate import calibrate
from online.evaluation import Figure, GrammarJudge, Outcome, Prompt, load_suite, summarise, to_dict
from online.evaluation.statistics import cluster_bootstrap
from online.fingerprint import fingerprint
from online.gap import Gap
from online.policy import Policy, Sample
from online.presets import PRESETS
from online.selector import Selection, select
from online.settings import UpdateSettings
from online.trainer import ADAPTER, Trainer

CACHE = Path(".cache/science")
RESULTS = Path("docs/science/results.json")
UNTRAINED = ("base", "no training", "best of 4")
PEERS = ("sft", "sft anchored", "dpo", "dpo anchored")
"""Learning from labels, through TRL: SFT on the base's own refusals of the traffic's harmful prompts, and DPO of these over
its compliances, as TRL has them and with our anchors on the traffic's benign prompts. Same LoRA, steps and learning rate."""
SMALL = {"paper": {"tune": "lora", "group_size": 8, "learning_rate": 2e-3, "max_tokens": 64}}
"""What is set in a run beside its preset: in 30 steps at the published rate of 1e-6 a model this small would not move."""
CHUNK = 512
MAX_TOKENS = 96
RUNS = (*UNTRAINED, *PRESETS, *PEERS)
DRAWS = 4
"""Responses at temperature 1 to each harmful prompt, and of best-of-n."""

Answers = dict[str, list[Outcome]]
"""Outcomes by mode, "sampled" (in the order of `drawn`) and "greedy" (in the order of the prompts)."""


def drawn(prompts: Sequence[Prompt]) -> list[Prompt]:
    """What is asked at temperature 1: every prompt, the harmful ones DRAWS times."""
    return [prompt for prompt in prompts for _ in range(DRAWS if prompt.kind == "harmful" else 1)]


def figures(prompts: Sequence[Prompt], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of one mode, with intervals that know how alike prompts of one family are."""

    def over_families(pairs: Iterable[tuple[Prompt, Outcome]], what: Outcome) -> Figure:
        listed = list(pairs)
        return cluster_bootstrap([o is what for _, o in listed], [p.family or p.cluster for p, _ in listed])

    return to_dict(summarise(prompts, outcomes, over_families))


@dataclass
class Base:
    """A base model with all that its runs share: test prompts, calibration, its own answers."""

    number: int
    folder: Path
    prompts: list[Prompt]

    @cached_property
    def calibration(self) -> Calibration:
        """From the labelled split, kept on disk."""
        path = CACHE / f"calibration-{self.number}-{fingerprint(self.folder)[7:19]}.json"
        if not path.exists():
            suite = load_suite(models.suite("calibration"))
            made = calibrate(self.policy(), "base", suite, GrammarJudge(), fingerprint(self.folder), seed=self.number)
            made.save(path)
        return Calibration.load(path)

    def policy(self) -> Policy:
        return Policy.load(self.folder)

    @cached_property
    def selection(self) -> Selection:
        """The traffic suite as the frozen base sorts it."""
        policy, traffic = self.policy(), load_suite(models.suite("traffic"))
        asked = [policy.render(prompt.messages) for prompt in traffic]
        return select(policy, asked, self.calibration.openings, self.calibration.tree_mass)

    def taught(self) -> dict[str, float]:
        """How much of each band of the traffic is truly harmful (labels are read here, and by no learner)."""
        harmful = [prompt.kind == "harmful" for prompt in load_suite(models.suite("traffic"))]
        bands = {name: getattr(self.selection, name) for name in ("high", "grey", "low")}
        return {f"harmful_{name}": sum(harmful[i] for i in band) / max(1, len(band)) for name, band in bands.items()}

    def mass(self) -> list[float]:
        """The base's tree mass on each test prompt."""
        policy = self.policy()
        with torch.no_grad():
            asked = [policy.render(prompt.messages) for prompt in self.prompts]
            return policy.tree_mass(asked, self.calibration.openings).double().tolist()


def base_model(number: int) -> Path:
    """The bundled model for number 0, else one trained by the same recipe from another seed."""
    if number == 0:
        return models.bundled()
    folder = CACHE / f"base{number}"
    if not (folder / "config.json").exists():
        recipe(["build", "--seed", str(number), "--out", str(folder)])
    return folder


def asked(policy: Policy, prompts: Sequence[Prompt], n: int, temperature: float, seed: int, what: str) -> list[list[Sample]]:
    """`n` responses to each prompt."""
    found: list[list[Sample]] = []
    for start in tqdm(range(0, len(prompts), CHUNK), desc=what, unit="chunk"):
        rendered = [policy.render(prompt.messages) for prompt in prompts[start : start + CHUNK]]
        samples = policy.generate(rendered, n, temperature=temperature, max_tokens=MAX_TOKENS, seed=seed + start)
        found += [samples[at : at + n] for at in range(0, len(samples), n)]
    return found


def judged(policy: Policy, prompts: Sequence[Prompt], samples: Iterable[Sample]) -> list[Outcome]:
    judge = GrammarJudge()
    return [judge.judge(p, policy.text(s.tokens)) for p, s in zip(prompts, samples, strict=True)]


def both(policy: Policy, prompts: Sequence[Prompt], seed: int, what: str) -> tuple[Answers, Gap]:
    """Judged responses in both modes, and the entropy gap among the harmful ones at temperature 1."""
    many = drawn(prompts)
    sampled = [one for (one,) in asked(policy, many, 1, 1.0, seed, f"{what}, T=1")]
    greedy = [one for (one,) in asked(policy, prompts, 1, 0.0, seed, f"{what}, greedy")]
    answers = {"sampled": judged(policy, many, sampled), "greedy": judged(policy, prompts, greedy)}
    harmful = [(o, s.entropy) for p, o, s in zip(many, answers["sampled"], sampled, strict=True) if p.kind == "harmful"]
    kinds = ([h for o, h in harmful if o is kind] for kind in (Outcome.REFUSAL, Outcome.COMPLIANCE))
    return answers, Gap.between(*kinds)


def record(base: Base, answers: Answers, gap: Gap | None, **more: object) -> dict:
    """One run's figures, named as the demo names them."""
    found = {
        "after": figures(drawn(base.prompts), answers["sampled"]),
        "greedy": figures(base.prompts, answers["greedy"]),
    }
    if gap is not None:
        found["after"]["entropy_gap"] = gap.auroc.to_dict()
    return {**found, **more}


def untrained(base: Base, seed: int) -> dict[str, dict]:
    """The base, the rule "refuse when its tree mass is over the threshold", and the surest of some draws where it is."""
    policy, tau = base.policy(), base.calibration.tree_mass.high
    answers, gap = both(policy, base.prompts, seed, f"base {base.number}")
    high = [mass > tau for mass in base.mass()]
    refuse = {prompt.id: over for prompt, over in zip(base.prompts, high, strict=True)}
    ruled = {
        mode: [Outcome.REFUSAL if refuse[p.id] else o for p, o in zip(prompts, answers[mode], strict=True)]
        for mode, prompts in {"sampled": drawn(base.prompts), "greedy": base.prompts}.items()
    }
    contested = [prompt for prompt, over in zip(base.prompts, high, strict=True) if over]
    draws = asked(policy, contested, DRAWS, 1.0, seed + 1, f"best of {DRAWS}, base {base.number}")
    best = judged(policy, contested, (min(group, key=lambda sample: sample.entropy) for group in draws))
    surest = {prompt.id: outcome for prompt, outcome in zip(contested, best, strict=True)}
    picked = [surest.get(p.id, o) for p, o in zip(drawn(base.prompts), answers["sampled"], strict=True)]
    return {
        "base": record(base, answers, gap, tau=tau),
        "no training": record(base, ruled, None, tau=tau),
        "best of 4": record(base, {"sampled": picked, "greedy": answers["greedy"]}, None, tau=tau),
    }


def trained(base: Base, preset: str, seed: int) -> dict:
    """What one label-free update from the traffic suite makes of the base."""
    policy, settings = base.policy(), UpdateSettings(preset=preset, seed=seed, **SMALL.get(preset, {}))
    started = time.monotonic()
    trainer = Trainer(policy, base.selection, base.calibration.openings, settings)
    for _ in tqdm(range(settings.steps), desc=f"learning, {preset}, base {base.number}, seed {seed}", unit="step"):
        trainer.advance()
    seconds = time.monotonic() - started
    with policy.adapter(ADAPTER):
        answers, gap = both(policy, base.prompts, seed, f"{preset}, base {base.number}, seed {seed}")
    return record(base, answers, gap, seconds=round(seconds, 1), history=trainer.history, **base.taught())


def labelled(base: Base, policy: Policy, seed: int) -> dict[str, list]:
    """What PEERS learn from (`benchmarks.peers_trl`): the base's own refusals and compliances, told apart by labels."""
    traffic = load_suite(models.suite("traffic"))
    harmful = [prompt for prompt in traffic if prompt.kind == "harmful"]
    benign = [prompt for prompt in traffic if prompt.kind != "harmful"]
    rows: list[dict] = []
    for prompt, draws in zip(harmful, asked(policy, harmful, 8, 1.0, seed, "answers to learn from"), strict=True):
        said = {o: policy.text(s.tokens) for o, s in zip(judged(policy, [prompt] * 8, draws), draws, strict=True)}
        if Outcome.REFUSAL in said and Outcome.COMPLIANCE in said:
            rows.append(
                {
                    "prompt": list(prompt.messages),
                    "chosen": said[Outcome.REFUSAL],
                    "rejected": said[Outcome.COMPLIANCE],
                }
            )
    anchors = [
        {"prompt": policy.render(prompt.messages), "response": sample.tokens}
        for prompt, (sample,) in zip(benign, asked(policy, benign, 1, 1.0, seed, "answers to anchor on"), strict=True)
    ]
    return {"rows": rows, "anchors": anchors}


def peer(base: Base, run: str, seed: int) -> dict:
    """What one method that learns from labels makes of the base."""
    if not TRL.exists():
        raise SystemExit(f"{TRL} is missing: run `pytest -m interop tests/interop/test_trl.py` once.")
    policy, settings = base.policy(), UpdateSettings()
    method, *anchored = run.split()
    with tempfile.TemporaryDirectory() as folder:
        data, adapter = Path(folder, "data.json"), Path(folder, "adapter")
        data.write_text(json.dumps(labelled(base, policy, seed)))
        command = [str(TRL.absolute()), "-I", "benchmarks/peers_trl.py", method, str(base.folder.absolute()), str(data)]
        command += [str(adapter), *map(str, (settings.learning_rate, settings.steps, seed)), *anchored]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"TRL's {run} failed: {done.stderr[-2000:]}")
        policy.load_adapter(ADAPTER, adapter)
    with policy.adapter(ADAPTER):
        answers, gap = both(policy, base.prompts, seed, f"{run}, base {base.number}, seed {seed}")
    return record(base, answers, gap)


def made_from(base: Base, run: str, seed: int) -> str:
    """Digest of all that decides a run."""
    settings = UpdateSettings(preset=run if run in PRESETS else "anchored", seed=seed, **SMALL.get(run, {}))
    decisive = [
        fingerprint(base.folder),
        *(Path(models.suite(name)).read_text() for name in ("calibration", "traffic")),
        [prompt.id for prompt in base.prompts],
        None if run in UNTRAINED else settings.model_dump(mode="json", exclude={"rollouts"}),  # drawn here, always
        (run, seed, DRAWS, MAX_TOKENS),
    ]
    return sha256(json.dumps(decisive).encode()).hexdigest()[:16]


class Results:
    """docs/science/results.json, written anew after each run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}

    def done(self, name: str, key: str) -> bool:
        return self.data["runs"].get(name, {}).get("key") == key

    def forget(self, base: int) -> None:
        """Let go of all runs on a base that has changed, or is asked other prompts."""
        self.data["runs"] = {name: run for name, run in self.data["runs"].items() if run["base"] != base}

    def keep(self, run: str, base: int, seed: int, key: str, found: dict, facts: dict[str, object]) -> None:
        runs, name = self.data["runs"], name_of(run, base, seed)
        runs[name] = {"run": run, "base": base, "seed": seed, "key": key, "date": datetime.now(UTC).date().isoformat()}
        before = runs[name_of("base", base, 0)]["after"] if run != "base" else found["after"]
        runs[name] |= {**facts, "before": before, **found}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.data, indent=1) + "\n")


def name_of(run: str, base: int, seed: int) -> str:
    return f"{run}, base {base}" if run in UNTRAINED else f"{run}, base {base}, seed {seed}"


def measure(results: Results, base: Base, runs: Sequence[str], seeds: Sequence[int], facts: dict[str, object]) -> None:
    """All runs on one base that are not there yet."""
    key = made_from(base, "base", 0)
    if not results.done(name_of("base", base.number, 0), key):
        results.forget(base.number)
        for run, found in untrained(base, base.number).items():
            results.keep(run, base.number, 0, key, found, facts)
    for run in (run for run in runs if run not in UNTRAINED):
        for seed in seeds:
            name, key = name_of(run, base.number, seed), made_from(base, run, seed)
            if not results.done(name, key):
                found = peer(base, run, seed) if run in PEERS else trained(base, run, seed)
                results.keep(run, base.number, seed, key, found, facts)


ROWS = {
    "DSR plain": "dsr_plain",
    "DSR seen": "dsr_seen",
    "DSR SIRL only": "dsr_sirl_only",
    "DSR base only": "dsr_base_only",
    "**DSR never seen**": "dsr_unseen",
    "DSR new topic": "dsr_new_topic",
    "refused plain": "plain",
    "refused wrapped": "wrapped",
    "refused borderline": "borderline",
    "utility": "utility",
    "garbled": "garbled",
}


def cell(runs: Sequence[dict], key: str) -> str:
    """Mean over runs in percent, temperature 1 / greedy; with the widest interval at temperature 1 in brackets."""
    shown = []
    for mode in ("after", "greedy"):
        found = [run[mode].get(key) or run[mode]["over_refusal"][key] for run in runs]
        text = f"{100 * sum(one['estimate'] for one in found) / len(found):.0f}"
        if mode == "after":
            text += f" [{100 * min(one['low'] for one in found):.0f}, {100 * max(one['high'] for one in found):.0f}]"
        shown.append(text)
    return " / ".join(shown)


def tables(data: dict[str, Any]) -> str:
    """One table a base: a row a run, a column a figure."""
    every = data["runs"].values()
    text = "<!-- written by python -m benchmarks.science from results.json -->\n"
    for base in sorted({run["base"] for run in every}):
        here = [run for run in every if run["base"] == base]
        order = [name for name in (*UNTRAINED, *PRESETS, *PEERS) if any(run["run"] == name for run in here)]
        text += f"\n## Base {base}\n\n{here[0]['prompts']} test prompts. Percent, T=1 [95%] / greedy.\n\n"
        text += "| run | seeds | " + " | ".join(ROWS) + " |\n| --- | --- |" + " --- |" * len(ROWS) + "\n"
        for name in order:
            runs = [run for run in here if run["run"] == name]
            cells = (cell(runs, key) for key in ROWS.values())
            text += f"| {name} | {len(runs)} | " + " | ".join(cells) + " |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="what learning does, preset by preset, on the test split")
    parser.add_argument("--bases", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--every", type=int, default=1, help="ask each Nth test prompt only, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    CACHE.mkdir(parents=True, exist_ok=True)
    prompts = load_suite(models.suite("test"))[:: args.every]
    facts = {"prompts": len(prompts), "machine": f"{platform.machine()}, torch {torch.__version__}"}
    results = Results(args.results)
    for number in args.bases:
        measure(results, Base(number, base_model(number), prompts), args.runs, args.seeds, facts)
    args.results.with_name("tables.md").write_text(tables(results.data))
    print(tables(results.data))


if __name__ == "__main__":
    main()
