"""The learner's three jobs as commands run them: calibrate, update once, update when due."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

import models
from guard.calibration import CalibrationError
from online import OnlineError
from online.buffer import Buffer
from online.calibrate import calibrate
from online.evaluation import GrammarJudge, load_suite
from online.fingerprint import fingerprint
from online.policy import Policy
from online.progress import last_started, unfinished
from online.registry import Registry
from online.schedule import due
from online.settings import Settings
from online.state import Busy, StateDir
from online.update import Outcome, Suites, run_gate, run_update

log = logging.getLogger("sirl")


def speaks_bundled_grammar(model: Path) -> bool:
    """Whether a model is one of ours, so that our suites ask it and our judge can read it."""
    identity = fingerprint(model)
    for name in models.NAMES:
        with suppress(FileNotFoundError):  # a slim install may carry one of them only
            if fingerprint(models.bundled(name)) == identity:
                return True
    return False


def suites_for(model: Path, folder: Path | None) -> Suites | None:
    """The labelled prompts an update is measured on: the bundled ones, or `calibration.jsonl` and `validation.jsonl` of a
    folder whose prompts speak the bundled grammar, the one the judge can read. None: there are none for this model."""
    if folder is None:
        if not speaks_bundled_grammar(model):
            return None
        paths = models.suite("calibration"), models.suite("validation")
    else:
        paths = folder / "calibration.jsonl", folder / "validation.jsonl"
    return Suites(load_suite(paths[0]), load_suite(paths[1]), GrammarJudge())


def run_calibration(settings: Settings, model: Path, adapter: str, suite: Path | None) -> str:
    """Learn openings and bands of the base or one version and store them; returns what was found, as a sentence."""
    state = StateDir(settings.state_dir)
    identity = fingerprint(model)
    ours = speaks_bundled_grammar(model)
    if suite is None and not ours:
        raise OnlineError(f"{model} is not a bundled model: give labelled prompts with --suite FILE.")
    prompts = load_suite(suite or models.suite("calibration"))
    policy = Policy.load(model)
    learn = settings.update
    limits = {"seed": learn.seed, "max_tokens": learn.max_tokens}
    judge = GrammarJudge() if ours else None
    try:
        if adapter == "base":
            made = calibrate(policy, adapter, prompts, judge, identity, **limits)
            made.save(state.calibration_path(adapter))
        else:
            registry = Registry(state, identity)
            version = int(adapter.removeprefix("v"))
            registry.verify(version)
            policy.load_adapter(adapter, registry.path(version))
            with policy.adapter(adapter):
                made = calibrate(policy, adapter, prompts, judge, identity, **limits)
            registry.attach(version, "calibration", made.to_json())
    except CalibrationError as error:
        raise OnlineError(str(error)) from error
    return (
        f"{adapter} is calibrated on {len(prompts)} prompts: {len(made.openings.sequences)} openings, "
        f"refusal mass low up to {made.serving_mass.low:.3f} and high from {made.serving_mass.high:.3f}, "
        f"entropy low up to {made.entropy_cut:.3f} nats."
    )


def open_buffer(settings: Settings, state: StateDir) -> Buffer:
    """The events' database the server writes."""
    return Buffer(settings.buffer.url or state.buffer_url, settings.buffer)


def run_one_update(settings: Settings, model: Path, folder: Path | None) -> Outcome:
    """One update from the buffer, gated, promoted or not. Raises Busy while another runs."""
    state = StateDir(settings.state_dir)
    registry = Registry(state, fingerprint(model))
    buffer = open_buffer(settings, state)
    try:
        return run_update(settings, state, registry, buffer, model, suites_for(model, folder))
    finally:
        buffer.close()


def gate_version(settings: Settings, model: Path, version: int, folder: Path | None) -> Outcome:
    """Calibrate and gate a version that came from outside, and promote it if it passes, as if it had been learned here."""
    state = StateDir(settings.state_dir)
    registry = Registry(state, fingerprint(model))
    return run_gate(settings, state, registry, model, suites_for(model, folder), version)


def sentence(outcome: Outcome) -> str:
    """An update's end for people."""
    what = f"v{outcome.version} was {outcome.status}" if outcome.version else f"The update was {outcome.status}"
    return f"{what} after {outcome.seconds:.0f} s: {' '.join(outcome.reasons)}"


def run_scheduler(settings: Settings, model: Path, folder: Path | None) -> None:
    """Run updates when they are due, and first the one a kill left unfinished; returns only when stopped."""
    state, began = StateDir(settings.state_dir), time.time()
    buffer = open_buffer(settings, state)
    rules = ", ".join(f"{name} {value}" for name, value in settings.learn.model_dump().items())
    log.info("the learner waits (%s)", rules)
    while True:
        last = last_started(state, began)
        reason = "unfinished" if unfinished(state) else due(time.time(), last, buffer.contested_since(last), settings.learn)
        if reason:
            log.info("an update starts (%s)", reason)
            try:
                log.info("%s", sentence(run_one_update(settings, model, folder)))
            except Busy as busy:
                log.info("%s", busy)
        time.sleep(settings.learn.poll_interval_s)
