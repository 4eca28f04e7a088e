"""Suites: the labelled prompts that a model is measured on, and the judge that reads its answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import models
from evaluation import load_suite
from evaluation.judges import judge_of
from online.gate.evaluator import Suites
from online.model.fingerprint import fingerprint
from online.settings.settings import Settings


def speaks_bundled_grammar(model: Path) -> bool:
    """Whether a model is one of ours, so that our suites ask it and our judge can read it."""
    identity = fingerprint(model)
    for name in models.NAMES:
        with suppress(FileNotFoundError):  # a slim install may carry one of them only
            if fingerprint(models.bundled(name)) == identity:
                return True
    return False


def suites_for(model: Path, settings: Settings) -> Suites | None:
    """The labelled prompts an update is measured on: the bundled ones, or those of a folder (calibration.jsonl,
    validation.jsonl, and gate.jsonl, without which the gate draws from the second); the operator's own; and the judge who
    reads the answers. None: there are none for this model. Raises SuiteError, JudgeError."""
    ours, folder = speaks_bundled_grammar(model), settings.update.suite
    if folder is None:
        if not ours:
            return None
        folder = models.suite("calibration").parent
    calibration, validation = load_suite(folder / "calibration.jsonl"), load_suite(folder / "validation.jsonl")
    drawn = load_suite(own) if (own := folder / "gate.jsonl").exists() else validation
    extra = {path.stem: load_suite(path) for path in settings.gate.suites}
    vetoes = {path.stem: load_suite(path) for path in settings.gate.vetoes}
    named = judge_named(settings, ours=ours)
    return Suites(calibration, validation, drawn, judge_of(named), extra, vetoes, named)


def judge_named(settings: Settings, *, ours: bool) -> str:
    """Who reads answers, as settings spell it: the grammar is that of our models alone."""
    return settings.update.judge or ("grammar" if ours else "rules")
