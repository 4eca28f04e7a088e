"""The learner's three jobs as commands run them: calibrate, update once, update when due."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

import models
from guard.calibration import CalibrationError
from online import OnlineError
from online.bench import Suites
from online.buffer import Buffer
from online.calibrate import calibrate
from online.conditions import read_template
from online.evaluation import load_suite
from online.evaluation.judges import judge_of
from online.fingerprint import fingerprint
from online.forget import client_named, erase, rebuild
from online.job import Job, PlanError
from online.policy import Policy
from online.progress import folders, last_started, read, unfinished
from online.queue import Queue
from online.redaction import Preparation
from online.registry import Registry
from online.repeat import repeat
from online.review import Decision, redact_prompts, review, summarise
from online.schedule import due
from online.settings import Settings
from online.share import Share, share
from online.state import StateDir
from online.update import Launch, Outcome, run_gate, run_update

log = logging.getLogger("sirl")

QUEUE_EVERY_S = 300.0
"""Between two looks at what waits in the queue, which an alert goes by."""


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
    judge = judge_of(settings.update.judge or ("grammar" if ours else "rules"))
    return Suites(calibration, validation, drawn, judge, extra, vetoes)


def version_of(name: str) -> int:
    """The number in "v3" or "3"; raises OnlineError for anything else."""
    number = name.removeprefix("v")
    if not (number.isascii() and number.isdecimal() and int(number)):
        raise OnlineError(f"{name or 'nothing'} names no adapter: give a version such as v3, or base.")
    return int(number)


def run_calibration(settings: Settings, model: Path, adapter: str, suite: Path | None) -> str:
    """Learn openings and bands of the base or one version and store them; returns what was found, as a sentence."""
    state = StateDir(settings.state_dir)
    identity = fingerprint(model)
    version = None if adapter == "base" else version_of(adapter)
    ours = speaks_bundled_grammar(model)
    if suite is None and not ours:
        raise OnlineError(f"{model} is not a bundled model: give labelled prompts with --suite FILE.")
    prompts = load_suite(suite or models.suite("calibration"))
    held = [] if suite else load_suite(models.suite("validation"))
    policy = Policy.load(model, template=read_template(settings.chat_template))
    learn = settings.update
    limits: dict[str, Any] = {"seed": learn.seed, "max_tokens": learn.max_tokens}
    limits |= {"held": held, "settings": settings.calibrate}
    named = learn.judge or ("grammar" if ours else None)
    judge = judge_of(named) if named else None
    try:
        if version is None:
            made = calibrate(policy, adapter, prompts, judge, identity, **limits)
            made.save(state.calibration_path(adapter))
        else:
            registry = Registry(state, identity, settings.registry)
            registry.verify(version)
            adapter = f"v{version}"
            policy.load_adapter(adapter, registry.path(version))
            with policy.adapter(adapter):
                made = calibrate(policy, adapter, prompts, judge, identity, **limits)
            registry.attach(version, "calibration", made.to_json())
            share(state, registry)
    except CalibrationError as error:
        raise OnlineError(str(error)) from error
    return (
        f"{adapter} is calibrated on {len(prompts)} prompts: {len(made.openings.sequences)} openings, "
        f"refusal mass low up to {made.serving_mass.low:.3f} and high from {made.serving_mass.high:.3f}, "
        f"entropy low up to {made.entropy_cut:.3f} nats. Under enforcement "
        + "; ".join(
            f"at most {p.share:.1%} of {name} responses are touched (confidence {p.confidence:.0%}, {p.clusters} actions)"
            for name, p in made.rule.promises.items()
        )
        + "."
    )


def open_buffer(settings: Settings, state: StateDir) -> Buffer:
    """The events' database the server writes."""
    return Buffer(settings.buffer.url or state.buffer_url, settings.buffer)


def run_one_update(settings: Settings, model: Path, launch: Launch | None = None) -> Outcome:
    """One update from the buffer, gated, promoted or not; `launch` starts an engine for its rollouts, should the settings
    want its own. Raises Busy while another runs."""
    state = StateDir(settings.state_dir)
    registry = Registry(state, fingerprint(model), settings.registry)
    share(state, registry)  # the candidate is held against what serves elsewhere as well
    buffer = open_buffer(settings, state)
    try:
        outcome = run_update(settings, state, registry, buffer, model, suites_for(model, settings), launch=launch)
    finally:
        buffer.close()
    tidy(state, registry)
    return outcome


def gate_version(settings: Settings, model: Path, version: int) -> Outcome:
    """Calibrate and gate a version that came from outside, and promote it if it passes, as if it had been learned here."""
    state = StateDir(settings.state_dir)
    registry = Registry(state, fingerprint(model), settings.registry)
    with closing(open_buffer(settings, state)) as buffer:
        outcome = run_gate(settings, state, registry, model, suites_for(model, settings), version, buffer)
    tidy(state, registry)
    return outcome


def forget(
    settings: Settings, model: Path, clients: Sequence[str], events: Sequence[str], launch: Launch | None = None
) -> Iterator[str]:
    """Delete what clients sent and single events, with every adapter that learned from them, and teach anew what served;
    tells what was done, as sentences."""
    state = StateDir(settings.state_dir)
    registry, buffer = Registry(state, fingerprint(model), settings.registry), open_buffer(settings, state)
    try:
        named = [client_named(state, client) for client in clients]
        done = erase(state, registry, buffer, named, events)
        gone = ", ".join(f"v{version}" for version in done.versions)
        fate = f"{gone} had learned from them, now destroyed" if gone else "no adapter had learned from them"
        yield f"{done.events} events are deleted; {fate}."
        if done.successor:
            live = registry.live()
            name = "the base" if live is None else f"v{live}"
            yield f"{name} serves in place of v{done.successor.version}, which is taught anew without them."
            suites = suites_for(model, settings)
            yield sentence(rebuild(done.successor, settings, state, registry, buffer, model, suites, launch))
    finally:
        buffer.close()
        share(state, registry)


def collect(state: StateDir, registry: Registry, actor: str) -> list[int]:
    """Delete the weights that nobody needs, and return whose; what a killed update made or was to judge is needed. Raises
    Busy while one runs, and FormatError where a newer sirl-guard began one."""
    with state.lock("update"):
        begun = [folder for folder in folders(state) if read(folder, "outcome.json") is None]
        names = {folder.name for folder in begun}
        for folder in begun:
            with suppress(PlanError):  # nothing goes on from a damaged plan
                names.add(Job.load(folder).key or folder.name)
        kept = [a.version for a in registry.versions() if {a.name, a.manifest.get("metrics", {}).get("update")} & names]
        return registry.collect(kept, actor=actor)


def tidy(state: StateDir, registry: Registry) -> None:
    """After an update: collect, and share what it made; what hinders either is said, and changes nothing of the update."""
    try:
        collect(state, registry, "learner")
    except OnlineError as error:
        log.warning("%s", error)
    share(state, registry)


def keep(state: StateDir, registry: Registry, act: str, name: str) -> str:
    """Pin or unpin a version, sign it, collect (gc) or sync; returns what was done, in a sentence."""
    if act == "gc":
        gone = ", ".join(f"v{version}" for version in collect(state, registry, "cli"))
        return f"the weights of {gone or 'no version'} are deleted."
    if act == "sync":
        if registry.store is None:
            raise OnlineError("there is no store to sync with: name one by registry.url.")
        Share(state, registry, registry.store).sync()
        return "the registry and the store are the same."
    version = version_of(name)
    if act == "sign":
        return f"signed of v{version}: {', '.join(registry.sign(version)) or 'nothing, for all of it was'}."
    if act == "pin":
        registry.pin(version, actor="cli")
        return f"v{version} is pinned: it stays until it is unpinned."
    registry.unpin(version, actor="cli")
    return f"v{version} is not pinned."


def queue(settings: Settings, model: Path) -> Queue:
    """The queue as an update would find it now."""
    state = StateDir(settings.state_dir)
    buffer = open_buffer(settings, state)
    try:
        return Queue.of(buffer, fingerprint(model), time.time(), settings, state.client_salt())
    finally:
        buffer.close()


def words(model: Path, tokens: Collection[int]) -> dict[int, str]:
    """What tokens of a model read."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    return {token: str(tokenizer.decode([token])) for token in sorted(tokens)}


def decide(settings: Settings, kind: str, names: Sequence[str], decision: Decision) -> None:
    """Approve, exclude or reset queued prompts or clients, by their hashes; a client also by its key or address."""
    state = StateDir(settings.state_dir)
    buffer = open_buffer(settings, state)
    try:
        hashes = [client_named(state, name) for name in names] if kind == "client" else names
        review(state, buffer, kind, hashes, decision, "cli")
    finally:
        buffer.close()


def redact(settings: Settings, model: Path, prompts: Sequence[str]) -> int:
    """Redact what is stored of prompts (hashes) and the answers to them; returns the number of events."""
    state, tokenizer = StateDir(settings.state_dir), AutoTokenizer.from_pretrained(model)
    buffer = open_buffer(settings, state)
    try:
        encode = partial(tokenizer.encode, add_special_tokens=False)
        with closing(Preparation(settings.buffer, encode, state.client_salt())) as preparation:
            return redact_prompts(state, buffer, fingerprint(model), prompts, preparation.redaction, "cli")
    finally:
        buffer.close()


def repeat_version(settings: Settings, model: Path, version: int) -> tuple[str, str]:
    """SHA-256 of a version's weights as they are, and as the same events teach them now."""
    state = StateDir(settings.state_dir)
    buffer = open_buffer(settings, state)
    try:
        return repeat(state, Registry(state, fingerprint(model), settings.registry), buffer, model, version)
    finally:
        buffer.close()


def sentence(outcome: Outcome) -> str:
    """An update's end for people."""
    what = f"v{outcome.version} was {outcome.status}" if outcome.version else f"The update was {outcome.status}"
    return f"{what} after {outcome.seconds:.0f} s: {' '.join(outcome.reasons)}"


def run_scheduler(settings: Settings, model: Path, launch: Launch | None = None) -> None:
    """Run updates when they are due, and first the one a kill left unfinished; returns only when stopped."""
    state, began, identity = StateDir(settings.state_dir), time.time(), fingerprint(model)
    registry = Registry(state, identity, settings.registry)
    shared = Share(state, registry, registry.store) if registry.store is not None else None
    buffer = open_buffer(settings, state)  # raises: a URL that is wrong at the start is the operator's to mend
    rules = ", ".join(f"{name} {value}" for name, value in settings.learn.model_dump().items())
    log.info("the learner waits (%s)", rules)
    complaint, look_at, share_at, trouble = "", 0.0, 0.0, None
    while True:
        if shared and time.monotonic() >= share_at:
            before, trouble = trouble, shared.attempt()
            if trouble != before:
                log.warning("%s", trouble or "the store is sound again.")
            share_at = time.monotonic() + settings.registry.pull_interval_s
        try:
            if time.monotonic() >= look_at:
                summarise(state, Queue.of(buffer, identity, time.time(), settings, state.client_salt()))
                look_at = time.monotonic() + QUEUE_EVERY_S
            last = last_started(state, began)
            new = buffer.contested_since(last, identity, time.time())
            if reason := "unfinished" if unfinished(state) else due(time.time(), last, new, settings.learn):
                log.info("an update starts (%s)", reason)
                log.info("%s", sentence(run_one_update(settings, model, launch)))
            complaint = ""
        except OnlineError as error:  # another update runs, or the database is away: the next look tells
            if str(error) != complaint:
                log.warning("%s", complaint := str(error))
        time.sleep(settings.learn.poll_interval_s)
