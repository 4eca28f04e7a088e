"""What is compared: base models as they are, under the guard's rule, and taught, without labels by each preset or with."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

import models
from benchmarks.learner import TRL
from benchmarks.science.base import (
    DRAWS,
    MAX_TOKENS,
    Answers,
    Base,
    Masses,
    asked,
    both,
    cells,
    drawn,
    judged,
    record,
    ruled,
    with_part,
)
from benchmarks.science.rule import equal_threshold, expected, frontier
from evaluation import Outcome, Prompt, load_suite
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.training.learning_rate import learning_rate
from online.training.presets import PRESETS
from online.training.trainer import ADAPTER, Trainer

UNTRAINED = ("base", "no training", "guard alone", "best of 4")
SCARCE = "anchored, 3% harmful"
"""`anchored` on traffic of which three percent are harmful."""
GUARDED = {"anchored": "anchored, guarded", "mass": "mass, guarded"}
"""Presets that are asked all prompts, and then looked at with the guard's rule over them."""
LABELLED = ("sft", "sft anchored", "dpo", "dpo anchored")
"""Learning from labels, through TRL: SFT on the base's own refusals of the traffic's harmful prompts, and DPO of these over
its compliances, as TRL has them and with our anchors on the traffic's benign prompts. Same LoRA, steps and learning rate."""
RUNS = (*UNTRAINED, *PRESETS, SCARCE, *LABELLED)
SMALL = {"paper": {"tune": "lora", "group_size": 8, "learning_rate": 2e-3, "max_tokens": 64}}
"""What is set in a run beside its preset: in 30 steps at the published rate of 1e-6 a model this small would not move."""
SCARCITY = 0.03
ELSEWHERE = {
    "rollouts",
    "engine_flags",
    "tensorboard",
    "suite",
    "judge",
    "min_prompts",
    "look_every",
    "look_prompts",
    "own_prompts",
}
"""Settings of an update that mean nothing here."""
LOOK_EVERY = 5
STEERING = "upper quartile of ratios"
"""By what the two-sided term goes (`objective.steered_gap`): no setting, so that runs with it name it themselves."""

Records = Iterator[tuple[str, dict[str, Any]]]
"""Pairs of a run's name and its record."""


def untrained(base: Base, seed: int) -> Records:
    """The base; the guard's rule at the calibrated threshold, and at the one of equal over-refusal; and the surest of some
    draws where the base's tree mass is over the calibrated one."""
    llm, tau = base.llm(), base.calibration.tree_mass.high
    answers, gap = both(llm, base.prompts, seed, f"base {base.number}")
    masses = base.masses(llm, base.prompts)
    yield "base", with_part(base.prompts, answers, gap, frontier=frontier(base.prompts, answers, masses))
    yield "no training", with_part(base.prompts, ruled(base.prompts, answers, masses > tau), tau=tau)
    yield "guard alone", guarded(base, answers, masses, llm)
    contested = [prompt for prompt, mass in zip(base.prompts, masses, strict=True) if mass > tau]
    draws = asked(llm, contested, DRAWS, 1.0, seed + 1, f"best of {DRAWS}, base {base.number}")
    best = judged(llm, contested, (min(group, key=lambda sample: sample.entropy) for group in draws))
    surest = {prompt.id: outcome for prompt, outcome in zip(contested, best, strict=True)}
    picked = [surest.get(p.id, o) for p, o in zip(drawn(base.prompts), answers["sampled"], strict=True)]
    yield "best of 4", with_part(base.prompts, {"sampled": picked, "greedy": answers["greedy"]}, tau=tau)


def guarded(base: Base, answers: Answers, masses: Masses, llm: LocalModel) -> dict[str, Any]:
    """A model with the rule over it, at the threshold of equal over-refusal on validation."""
    validation = load_suite(models.suite("validation"))
    with llm.adapter(None):
        bare = base.masses(llm, validation)
    tau = equal_threshold(validation, bare, base.masses(llm, validation))
    return with_part(base.prompts, ruled(base.prompts, answers, masses > tau), tau=tau)


def traffic(scarce: bool = False) -> list[Prompt]:
    """The traffic suite; scarce, with only so many harmful prompts, evenly taken, that they are SCARCITY of all."""
    every = load_suite(models.suite("traffic"))
    harmful = [prompt for prompt in every if prompt.kind == "harmful"]
    many = round(SCARCITY / (1 - SCARCITY) * (len(every) - len(harmful)))
    kept = {harmful[at * len(harmful) // many].id for at in range(many)} if scarce else {p.id for p in harmful}
    return [prompt for prompt in every if prompt.kind != "harmful" or prompt.id in kept]


def settings_of(run: str, seed: int) -> UpdateSettings:
    """Of a run that learns without labels."""
    return UpdateSettings(preset="anchored" if run == SCARCE else run, seed=seed, **SMALL.get(run, {}))


def learn(base: Base, llm: LocalModel, prompts: list[Prompt], settings: UpdateSettings, what: str) -> dict[str, Any]:
    """One label-free update from traffic, left in the model as its adapter; returns how it went.

    How much of each band is truly harmful is told from labels, which are read here and by no learner. `dynamics` are
    expected refusals in each cell, from the exact masses of the base's prompts.
    """
    selection = base.select(prompts)
    harmful = [prompt.kind == "harmful" for prompt in prompts]
    bands = {name: getattr(selection, name) for name in ("high", "grey", "low")}
    story = {f"harmful_{name}": sum(harmful[i] for i in band) / max(1, len(band)) for name, band in bands.items()}
    trainer = Trainer(llm, selection, base.calibration.openings, settings)
    inside, dynamics, seconds = cells(base.prompts), [], 0.0
    for _ in tqdm(range(settings.steps), desc=f"learning, {what}", unit="step"):
        started = time.monotonic()
        trainer.advance()
        seconds += time.monotonic() - started
        if trainer.step % LOOK_EVERY == 0:
            with llm.adapter(ADAPTER):
                masses = base.masses(llm, base.prompts)
            dynamics.append({"step": trainer.step} | {cell: expected(masses[mine]) for cell, mine in inside.items()})
    return {**story, "seconds": round(seconds, 1), "history": trainer.history, "dynamics": dynamics}


def taught(base: Base, run: str, seed: int) -> Records:
    """What one label-free update from the traffic suite makes of the base, and the guard over it."""
    what, llm = f"{run}, base {base.number}, seed {seed}", base.llm()
    story = learn(base.part, llm, traffic(scarce=run == SCARCE), settings_of(run, seed), what)
    with llm.adapter(ADAPTER):
        if run not in GUARDED:
            answers, gap = both(llm, base.part.prompts, seed, what)
            yield run, record(base.part.prompts, answers, gap, **story)
            return
        answers, gap = both(llm, base.prompts, seed, what)
        masses = base.masses(llm, base.prompts)
        curve = frontier(base.prompts, answers, masses)
        yield run, with_part(base.prompts, answers, gap, frontier=curve, **story)
        yield GUARDED[run], guarded(base, answers, masses, llm)


def lessons(base: Base, llm: LocalModel, seed: int) -> dict[str, list]:
    """What LABELLED learn from (`benchmarks.peers_trl`): the base's own refusals and compliances, told apart by labels."""
    harmful = [prompt for prompt in traffic() if prompt.kind == "harmful"]
    benign = [prompt for prompt in traffic() if prompt.kind != "harmful"]
    rows: list[dict] = []
    for prompt, draws in zip(harmful, asked(llm, harmful, 8, 1.0, seed, "answers to learn from"), strict=True):
        said = {o: llm.text(s.tokens) for o, s in zip(judged(llm, [prompt] * 8, draws), draws, strict=True)}
        if Outcome.REFUSAL in said and Outcome.COMPLIANCE in said:
            row = {"chosen": said[Outcome.REFUSAL], "rejected": said[Outcome.COMPLIANCE]}
            rows.append({"prompt": list(prompt.messages), **row})
    anchors = [
        {"prompt": llm.render(prompt.messages), "response": sample.tokens}
        for prompt, (sample,) in zip(benign, asked(llm, benign, 1, 1.0, seed, "answers to anchor on"), strict=True)
    ]
    return {"rows": rows, "anchors": anchors}


def taught_by_labels(base: Base, run: str, seed: int) -> Records:
    """What one method that learns from labels makes of the base."""
    if not TRL.exists():
        raise SystemExit(f"{TRL} is missing: run `pytest -m interop tests/interop/test_trl.py` once.")
    llm, settings, prompts = base.llm(), UpdateSettings(), base.part.prompts
    method, *anchored = run.split()
    with tempfile.TemporaryDirectory() as folder:
        data, adapter = Path(folder, "data.json"), Path(folder, "adapter")
        data.write_text(json.dumps(lessons(base, llm, seed)))
        command = [str(TRL.absolute()), "-I", "benchmarks/peers_trl.py", method, str(base.folder.absolute()), str(data)]
        command += [str(adapter), *map(str, (learning_rate(settings, llm.size), settings.steps, seed)), *anchored]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"TRL's {run} failed: {done.stderr[-2000:]}")
        llm.load_adapter(ADAPTER, adapter)
    with llm.adapter(ADAPTER):
        answers, gap = both(llm, prompts, seed, f"{run}, base {base.number}, seed {seed}")
    yield run, record(prompts, answers, gap)


def made_from(base: Base, run: str, seed: int) -> str:
    """Digest of all that decides a run."""
    if run in UNTRAINED:
        settings = None
    else:
        settings = settings_of(run if run in (*PRESETS, SCARCE) else "anchored", seed)
    decisive = [
        fingerprint(base.folder),
        *(Path(models.suite(name)).read_text() for name in ("calibration", "validation", "traffic")),
        [prompt.id for prompt in base.prompts],
        settings and settings.model_dump(mode="json", exclude=ELSEWHERE),
        (run, seed, DRAWS, MAX_TOKENS),
    ]
    preset = PRESETS[settings.preset] if settings and run not in LABELLED else None
    if preset and preset.form == "exact" and preset.two_sided:
        decisive.append(STEERING)
    return sha256(json.dumps(decisive).encode()).hexdigest()[:16]
