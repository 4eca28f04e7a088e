"""One update, end to end: may we learn, from what, train, publish, calibrate, gate, promote.

Every stage can be killed. An update resumes where its checkpoint or the registry left it, from the same events and
with the same result; if its events, settings or calibration are no longer the same, it is discarded.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from guard.calibration import Calibration, CalibrationError
from guard.openings import Openings
from online import OnlineError
from online.buffer import Buffer
from online.calibrate import calibrate
from online.evaluation import Judge, Prompt
from online.gap import entropy_gap, may_learn
from online.gate import GateReport, Measured, compare, contradictions, held_out, measure
from online.job import ATTEMPTS, Job, Outcome, Status
from online.ledger import Ledger
from online.lessons import Lessons
from online.policy import Policy
from online.queue import ADMITTED, Queue
from online.registry import Registry
from online.report import write_report
from online.review import summarise
from online.rollouts import FromEngine, FromPolicy, Rollouts
from online.scalars import scalars
from online.selector import Selection
from online.settings import Settings, UpdateSettings
from online.state import StateDir
from online.trainer import ADAPTER, CHECKPOINT_STEPS, Trainer

log = logging.getLogger("sirl")

LIVE = "live"

Launch = Callable[[], AbstractContextManager[StateDir]]
"""Starts an engine for one update's rollouts, which is there while the block lasts; gives its state directory."""

DECISIONS: dict[str, Status] = {"promote": "promoted", "reject": "rejected", "undecided": "undecided"}


@dataclass(frozen=True, slots=True)
class Suites:
    """Labelled prompts of one model and the judge that reads its answers; updates measure with them, never learn."""

    calibration: Sequence[Prompt]
    validation: Sequence[Prompt]
    judge: Judge


class Refused(Exception):
    """There is a reason not to learn; nothing was changed."""


class Stopped(Exception):
    """Learning went wrong on its way and was stopped; nothing was published."""


def run_update(
    settings: Settings,
    state: StateDir,
    registry: Registry,
    buffer: Buffer,
    base_dir: Path,
    suites: Suites | None,
    *,
    launch: Launch | None = None,
    until: float | None = None,
    bar: type[tqdm] = tqdm,
) -> Outcome:
    """Run one update, or go on with the one that was killed; with `until` (unix time, seconds) one from what the buffer
    holds of the time before. Raises Busy while another runs."""
    with state.lock("update"):
        job = Job.open(state.updates) if until is None else Job.new(state.updates, until)
        run = _Run(settings, state, registry, base_dir, suites, bar, job, launch)
        return run.finished(lambda: run.learn(buffer))


def run_gate(
    settings: Settings,
    state: StateDir,
    registry: Registry,
    base_dir: Path,
    suites: Suites | None,
    version: int,
    *,
    bar: type[tqdm] = tqdm,
) -> Outcome:
    """Calibrate, gate and perhaps promote a version that is there already, such as an imported one."""
    with state.lock("update"):
        run = _Run(settings, state, registry, base_dir, suites, bar, Job.new(state.updates).claim(f"v{version}"))
        return run.finished(lambda: run.judge(version))


Ending = tuple[Status, tuple[str, ...], int | None]


@dataclass
class _Run:
    """The stages of one update."""

    settings: Settings
    state: StateDir
    registry: Registry
    base_dir: Path
    suites: Suites | None
    bar: type[tqdm]
    job: Job
    launch: Launch | None = None
    story: dict[str, Any] = field(default_factory=dict)
    """What the report will tell of it (`online.report`)."""

    def finished(self, work: Callable[[], Ending]) -> Outcome:
        """Do the work and put on record how it ended."""
        began = time.monotonic()
        self.registry.sweep()
        try:
            status, reasons, version = self._given_up() if self.job.given_up else work()
        except Refused as refusal:
            status, reasons, version = "refused", (str(refusal),), None
        except Stopped as sign:
            status, reasons, version = "rejected", sign.args, None
        except (OnlineError, CalibrationError) as error:
            status, reasons, version = "failed", (str(error),), None
        outcome = Outcome(self.job.id, status, reasons, version, time.monotonic() - began)
        self.job.finish(outcome)
        try:
            write_report(self.job.folder, asdict(outcome), self.story)
        except OSError as error:
            log.warning("the report of update %s could not be written (%s): its outcome stands", outcome.id, error)
        self.state.audit("update.finished", **asdict(outcome))
        return outcome

    def _given_up(self) -> Ending:
        reason = (
            f"It ended its process {ATTEMPTS} times: see learner.log in {self.state.path} for the cause (memory, often)."
        )
        return "failed", (reason,), None

    def learn(self, buffer: Buffer) -> Ending:
        """From the buffer to a decision; raises Refused where there is a reason not to learn."""
        learn = self.settings.update
        if self.settings.buffer.text == "hash":
            raise Refused(
                "buffer.text = 'hash' keeps no prompt to learn from: store 'redacted' or 'full', or leave learning off."
            )
        if self.registry.keys.mute:
            raise Refused("What is learned here could not be signed, and would be refused: set registry.signing_key.")
        learn = learn.model_copy(update={"steps": min(learn.steps, learn.max_steps_from_base)})
        if learn.tune == "full":
            raise Refused(
                "update.tune = 'full' makes whole weights, which no running server can swap in: use 'lora', and with "
                "preset 'paper' a learning rate for it."
            )
        self.story["settings"] = learn.model_dump(mode="json")
        policy, suites, limits = self._ready()
        gap = entropy_gap(policy, suites.calibration, suites.judge, **limits)
        self.story["gap"] = asdict(gap)
        if reason := may_learn(gap):
            raise Refused(reason)
        base = self._base_calibration(policy, suites, limits)
        lessons, selection, key = self._data(policy, buffer, base, learn)
        if self.job.key not in (None, key):
            self.job = self.job.discard()
            lessons, selection, key = self._data(policy, buffer, base, learn)
        self.job = self.job.claim(key)
        version = self._published(key)
        if version is None:
            with self._rollouts(learn) as rollouts:
                trainer = Trainer(policy, selection, base.openings, learn, rollouts)
                self._train(trainer, key, self._lookout(policy, suites, base, limits))
            ledger = Ledger.of(lessons.until, lessons.events, selection, self.state.client_salt())
            version = self._publish(policy, key, learn, ledger, {"gap": asdict(gap), "history": trainer.history})
        else:
            policy.load_adapter(ADAPTER, self.registry.path(version))
            self.story["history"] = self.registry.manifest(version)["metrics"]["history"]
        return self._decide(policy, version, base, suites, limits)

    def judge(self, version: int) -> Ending:
        """The last stages alone, for a version that came from elsewhere."""
        self.registry.verify(version)
        policy, suites, limits = self._ready()
        base = self._base_calibration(policy, suites, limits)
        policy.load_adapter(ADAPTER, self.registry.path(version))
        return self._decide(policy, version, base, suites, limits)

    def _ready(self) -> tuple[Policy, Suites, dict[str, int]]:
        """The base, its suites, and what all sampling shares."""
        if self.suites is None:
            raise Refused(str(may_learn(None)))
        self.job.progress("checking")
        learn = self.settings.update
        torch.set_num_threads(learn.threads)
        return (
            Policy.load(self.base_dir, dtype=getattr(torch, learn.dtype)),
            self.suites,
            {"seed": learn.seed, "max_tokens": learn.max_tokens},
        )

    def _base_calibration(self, policy: Policy, suites: Suites, limits: dict[str, int]) -> Calibration:
        """The base's calibration as it is on disk or came with the model; made anew where it is another model's. Raises
        Refused for a reasoning model: the objective's tree begins where an answer does, and a prompt ends before that."""
        try:
            found = Calibration.load(self.state.find_calibration("base", self.base_dir))
        except CalibrationError:
            found = None  # made anew below
        if found is None or found.model != self.registry.base:
            self.job.progress("calibrating the base")
            found = self._calibrated(policy, "base", suites, limits)
            found.save(self.state.calibration_path("base"))
        if found.openings.reasoning:
            raise Refused(
                "This model reasons before it answers, which the learner does not do yet: guard it without learning."
            )
        return found

    def _calibrated(self, policy: Policy, name: str, suites: Suites, limits: dict[str, int]) -> Calibration:
        """A calibration of the policy as it answers now."""
        return calibrate(
            policy,
            name,
            suites.calibration,
            suites.judge,
            self.registry.base,
            held=suites.validation,
            settings=self.settings.calibrate,
            seed=limits["seed"],
            max_tokens=limits["max_tokens"],
        )

    def _data(
        self, policy: Policy, buffer: Buffer, base: Calibration, learn: UpdateSettings
    ) -> tuple[Lessons, Selection, str]:
        """As much as the steps can look at, as the base sorts it and quotas leave it, and the digest of all that decides."""
        self.job.progress("selecting")
        identity = self.registry.base
        queue = Queue.of(buffer, identity, self.job.cutoff, self.settings, self.state.client_salt())
        summarise(self.state, queue)
        lessons, selection, over = Lessons.chosen(queue, policy, base, learn, self.settings.queue)
        self.story["queue"] = queue.counts() | {f"over the {kind} quota": count for kind, count in over.items()}
        held = ", ".join(f"{count} {name}" for name, count in self.story["queue"].items() if count and name not in ADMITTED)
        beside = f" ({held}: `sirl queue` and the queue.* settings)" if held else ""
        if len(selection.prompts) < learn.min_prompts:
            raise Refused(
                f"The buffer holds {len(selection.prompts)} distinct prompts that may teach{beside} and update.min_prompts "
                f"asks for {learn.min_prompts}: wait for more traffic."
            )
        self.story["bands"] = {name: len(getattr(selection, name)) for name in ("high", "grey", "low")}
        if len(selection.high) < learn.contested_per_step or not selection.low:
            raise Refused(
                f"Of {len(selection.prompts)} buffered prompts{beside} {len(selection.high)} are contested and "
                f"{len(selection.low)} are not: at least {learn.contested_per_step} of the first and some of the second are "
                "needed."
            )
        return lessons, selection, lessons.digest(base, learn, identity)

    @contextmanager
    def _rollouts(self, learn: UpdateSettings) -> Iterator[Rollouts]:
        """The engine that is wished for, where one runs or starts; else the policy itself."""
        with ExitStack() as stack:
            found, why = None, f"no endpoint runs on {self.state.path}"
            if learn.rollouts == "engine":
                found = FromEngine.found(self.state)
            elif learn.rollouts == "own" and self.launch is not None:
                try:
                    found = FromEngine.found(stack.enter_context(self.launch()))
                except OnlineError as error:
                    why = str(error)
            if found is None and learn.rollouts != "transformers":
                log.warning("update.rollouts is '%s', but the learner draws itself: %s", learn.rollouts, why)
            yield found or FromPolicy()

    def _lookout(
        self, policy: Policy, suites: Suites, base: Calibration, limits: dict[str, int]
    ) -> Callable[[], tuple[str, ...]]:
        """A look at held-out prompts: what there speaks against the adapter as it is now."""
        prompts = held_out(suites.validation, self.settings.update.look_prompts)

        def look(name: str | None) -> Measured:
            with policy.adapter(name):
                return measure(policy, prompts, suites.judge, base.openings, **limits)

        before = cache(lambda: look(None))
        return lambda: contradictions(prompts, look(ADAPTER), before(), self.settings.gate)

    def _train(self, trainer: Trainer, key: str, lookout: Callable[[], tuple[str, ...]]) -> None:
        """All steps, or those that are left after the last checkpoint. Raises Stopped at signs of collapse."""
        trainer.restore(self.job.checkpoint, key)
        self.story["history"] = trainer.history
        total, first, began = trainer.settings.steps, trainer.step, time.monotonic()
        where = self.state.path / "tensorboard" / self.job.id if trainer.settings.tensorboard else None
        bar = self.bar(total=total, initial=first, desc="learning", unit="step")
        with bar, scalars(where, first) as note:
            while trainer.step < total:
                metrics = trainer.advance()
                note(metrics)
                if sign := trainer.sign_of_collapse():
                    raise Stopped(f"Learning stopped at step {trainer.step}: {sign}.")
                every = trainer.settings.look_every
                if every and trainer.step % every == 0 and trainer.step < total and (signs := lookout()):
                    raise Stopped(*(f"Learning stopped at step {trainer.step}: {sign}." for sign in signs))
                if trainer.step % CHECKPOINT_STEPS == 0 or trainer.step == total:
                    trainer.save(self.job.checkpoint, key)
                bar.set_postfix(refused=f"{metrics['refused']:.2f}", entropy=f"{metrics['entropy']:.2f}")
                bar.update()
                pace = (time.monotonic() - began) / (trainer.step - first)
                self.job.progress("learning", trainer.step, total, pace * (total - trainer.step))

    def _published(self, key: str) -> int | None:
        """The version that this update made before it was killed."""
        for adapter in self.registry.versions():
            manifest = adapter.manifest
            if manifest.get("data_fingerprint") == key and manifest["metrics"].get("update") == self.job.id:
                return adapter.version
        return None

    def _publish(self, policy: Policy, key: str, learn: UpdateSettings, ledger: Ledger, metrics: dict[str, Any]) -> int:
        with self.registry.stage() as staged:
            policy.save_adapter(ADAPTER, staged)
            ledger.save(staged)
            return self.registry.publish(
                staged,
                parent=None,
                settings=learn.model_dump(mode="json"),
                data_fingerprint=key,
                metrics={"update": self.job.id, **metrics},
            )

    def _decide(self, policy: Policy, version: int, base: Calibration, suites: Suites, limits: dict[str, int]) -> Ending:
        """Calibrate the candidate, gate it, and promote it if it passed."""
        evaluation = self.registry.path(version) / "evaluation.json"
        if not evaluation.exists():
            report = self._gate(policy, version, base, suites, limits)
            for line in report.lines():
                self.bar.write(line)
            self.registry.attach(version, "evaluation", report.to_json() | {"decision": DECISIONS[report.decision]})
        found = self.story["gate"] = json.loads(evaluation.read_text("utf-8"))
        if found["decision"] == "promoted" and self.registry.live() != version:
            self.registry.activate(version, actor="learner", reason=f"update {self.job.id} passed its gate")
        return found["decision"], tuple(found["reasons"]), version

    def _gate(self, policy: Policy, version: int, base: Calibration, suites: Suites, limits: dict[str, int]) -> GateReport:
        """Weigh the candidate against the base and, where an adapter serves, against that."""
        try:
            own = self._own_calibration(policy, version, suites, limits)
        except CalibrationError as error:
            return GateReport("reject", (str(error),), {}, {})
        adapters: dict[str, str | None] = {"candidate": ADAPTER, "base": None}
        live = self.registry.live()
        if live not in (None, version):
            policy.load_adapter(LIVE, self.registry.path(live))
            adapters["live"] = LIVE
        openings = Openings((*base.openings.sequences, *own.openings.sequences))
        prompts = held_out(suites.validation, self.settings.gate.prompts_per_class)
        measured: dict[str, Measured] = {}
        for name in self.bar(adapters, desc="gating", unit="policy"):
            self.job.progress("gating", len(measured), len(adapters))
            with policy.adapter(adapters[name]):
                measured[name] = measure(policy, prompts, suites.judge, openings, **limits)
        return compare(prompts, measured.pop("candidate"), measured, self.settings.gate)

    def _own_calibration(self, policy: Policy, version: int, suites: Suites, limits: dict[str, int]) -> Calibration:
        """The candidate's calibration, made unless it has one."""
        path = self.registry.calibration_path(f"v{version}")
        if path.exists():
            self.registry.vouch(f"v{version}")
            return Calibration.load(path)
        self.job.progress("calibrating the candidate")
        with policy.adapter(ADAPTER):
            made = self._calibrated(policy, f"v{version}", suites, limits)
        self.registry.attach(version, "calibration", made.to_json())
        return made
