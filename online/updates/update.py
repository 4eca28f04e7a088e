"""One update from end to end: check the gap, choose, train, publish, calibrate, gate, promote.

Every stage can be killed. An update resumes where its checkpoint or the registry left it, from the same events and
with the same result; if its events, settings or calibration are no longer the same, it is discarded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from guard.calibration import Calibration, CalibrationError
from guard.errors import SirlError
from guard.openings import Openings, Tokens
from online.admission.queue import Queue
from online.admission.queued import ADMITTED
from online.admission.review import summarise
from online.events.buffer import Buffer
from online.gate.answers import Answers
from online.gate.evaluator import Evaluator, Suites
from online.gate.examination import CANDIDATE, examine
from online.gate.gate import GateReport, OnTheWay, best, on_the_way
from online.gate.held_out import HeldOut, Rows, draw_held_out
from online.gate.scores import Scores
from online.model.added_tokens import added_tokens
from online.model.learnable import inexact, unlearnable
from online.model.local_model import LocalModel
from online.model.served_model import load_to_learn
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.release_stages import advance
from online.settings.groups import UpdateSettings
from online.settings.settings import Settings
from online.state.cores import idle_cores
from online.state.directory import StateDir
from online.training.entropy_gap import Gap, entropy_gap, may_learn, may_learn_by_sense
from online.training.learning_rate import learning_rate
from online.training.ledger import Ledger
from online.training.presets import PRESETS
from online.training.rollouts import EngineRollouts, LocalRollouts, RolloutSource
from online.training.selector import Selection
from online.training.targets import TargetError, lora
from online.training.trainer import ADAPTER, Trainer
from online.training.training_set import TrainingSet, beside_own
from online.updates.learning import UpdateStopped, learn_up_to
from online.updates.record import ATTEMPTS, Status, UpdateOutcome, UpdateRecord
from online.updates.report import write_report

log = logging.getLogger("sirl")

Launch = Callable[[], AbstractContextManager[StateDir]]
"""Starts an engine for one update's rollouts, which is there while the block lasts; gives its state directory."""

OFFERED = "offered"
"""The adapter that the engine is tried with."""

DECISIONS: dict[str, Status] = {"promote": "promoted", "reject": "rejected", "undecided": "undecided"}


class UpdateRefused(Exception):
    """There is a reason not to learn; nothing was changed."""


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
) -> UpdateOutcome:
    """Run one update, or go on with the one that was killed; with `until` (unix time, seconds) one from what the buffer
    holds of the time before. Raises Busy while another runs."""
    with state.lock("update"):
        record = UpdateRecord.open(state.updates) if until is None else UpdateRecord.new(state.updates, until)
        run = _Run(settings, state, registry, base_dir, suites, bar, record, launch)
        return run.finished(lambda: run.learn(buffer))


def run_gate(
    settings: Settings,
    state: StateDir,
    registry: Registry,
    base_dir: Path,
    suites: Suites | None,
    version: int,
    buffer: Buffer,
    *,
    bar: type[tqdm] = tqdm,
) -> UpdateOutcome:
    """Calibrate, gate and perhaps promote a version that is there already, such as an imported one."""
    with state.lock("update"):
        run = _Run(settings, state, registry, base_dir, suites, bar, UpdateRecord.new(state.updates).claim(f"v{version}"))
        return run.finished(lambda: run.judge(version, buffer))


Ending = tuple[Status, tuple[str, ...], int | None]


@dataclass(frozen=True, slots=True)
class _Examined:
    """Whoever the gate asks, by name; shown: told after each part."""

    evaluator: Evaluator
    held_out: HeldOut
    openings: Openings
    adapters: Mapping[str, str | None]
    shown: Callable[[], None]

    def score(self, name: str, rows: Rows) -> Scores:
        found = self.evaluator.scored(self.held_out, self.openings, self.adapters[name], rows)
        self.shown()
        return found

    def answer(self, name: str, rows: Rows) -> Answers:
        found = self.evaluator.answered(self.held_out, self.adapters[name], rows)
        self.shown()
        return found


@dataclass
class _Run:
    """The stages of one update."""

    settings: Settings
    state: StateDir
    registry: Registry
    base_dir: Path
    suites: Suites | None
    bar: type[tqdm]
    record: UpdateRecord
    launch: Launch | None = None
    story: dict[str, Any] = field(default_factory=dict)
    """What the report will tell of it (`online.updates.report`)."""

    def finished(self, work: Callable[[], Ending]) -> UpdateOutcome:
        """Do the work and put on record how it ended."""
        began = time.monotonic()
        self.registry.sweep()
        try:
            status, reasons, version = self._given_up() if self.record.given_up else work()
        except UpdateRefused as refusal:
            status, reasons, version = "refused", (str(refusal),), None
        except UpdateStopped as sign:
            status, reasons, version = "rejected", sign.args, None
        except (SirlError, CalibrationError) as error:
            status, reasons, version = "failed", (str(error),), None
        outcome = UpdateOutcome(self.record.id, status, reasons, version, time.monotonic() - began)
        self.record.finish(outcome)
        try:
            write_report(self.record.folder, asdict(outcome), self.story)
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
            raise UpdateRefused(
                "buffer.text = 'hash' keeps no prompt to learn from: store 'redacted' or 'full', or leave learning off."
            )
        if self.registry.keys.mute:
            raise UpdateRefused("What is learned here could not be signed, and would be refused: set registry.signing_key.")
        learn = learn.model_copy(update={"steps": min(learn.steps, learn.max_steps_from_base)})
        if learn.tune == "full":
            raise UpdateRefused(
                "update.tune = 'full' makes whole weights, which no running server can swap in: use 'lora', and with "
                "preset 'paper' a learning rate for it."
            )
        self.story["settings"] = learn.model_dump(mode="json")
        evaluator = self._ready()
        llm, suites = evaluator.llm, evaluator.suites
        learn = learn.model_copy(
            update={  # on record: they decide the weights to the bit
                "device": llm.model.device.type,
                "dtype": llm.conditions.dtype,
                "memory_gib": llm.memory / 2**30,
                "learning_rate": learning_rate(learn, llm.size),
                "threads": torch.get_num_threads(),
            }
        )
        self.story["settings"] = learn.model_dump(mode="json")
        self._try_out(llm, learn, suites)
        gap = self._gap(evaluator)
        self.story["gap"] = asdict(gap)
        if reason := may_learn(gap):
            raise UpdateRefused(reason)
        base = self._base_calibration(evaluator)
        if PRESETS[learn.preset].sensed and (reason := may_learn_by_sense(base)):
            raise UpdateRefused(reason)
        training_set, selection, key = self._data(llm, buffer, base, learn)
        if self.record.key not in (None, key):
            self.record = self.record.discard()
            training_set, selection, key = self._data(llm, buffer, base, learn)
        self.record = self.record.claim(key, learn.threads)
        version = self._published(key)
        if version is None:
            with self._rollouts(learn) as rollouts:
                trainer = Trainer(llm, selection, base.openings, learn, rollouts)
                scalars_in = self.state.path / "tensorboard" / self.record.id if learn.tensorboard else None
                look, sound = self._look(evaluator, base)
                try:
                    back = learn_up_to(trainer, self.record, (key, sound), look, scalars_in, self.bar)
                finally:
                    self.story["history"] = trainer.history
            cut, salt = self.settings.queue.cut, self.state.client_salt()
            ledger = Ledger.of(training_set.until, training_set.events, selection, salt, cut)
            metrics = {"gap": asdict(gap), "history": trainer.history} | ({"went_back": back} if back else {})
            version = self._publish(llm, key, learn, ledger, metrics)
        else:
            llm.load_adapter(ADAPTER, self.registry.path(version))
            self.story["history"] = self.registry.manifest(version)["metrics"]["history"]
        return self._decide(evaluator, version, base, training_set.held)

    def judge(self, version: int, buffer: Buffer) -> Ending:
        """The last stages alone, for a version that came from elsewhere or that the gate was undecided about."""
        self.registry.verify(version)
        if self._settled(version):
            return self._concluded(version)
        evaluator = self._ready()
        base = self._base_calibration(evaluator)
        training_set, _, _ = self._chosen(evaluator.llm, buffer, base, self.settings.update)
        evaluator.llm.load_adapter(ADAPTER, self.registry.path(version))
        return self._decide(evaluator, version, base, training_set.held)

    def _ready(self) -> Evaluator:
        """Raises UpdateRefused where there are no suites, or the model cannot be learned."""
        if self.suites is None:
            raise UpdateRefused(str(may_learn(None)))
        self.record.progress("checking")
        self._refuse_reasoning(self._known_calibration())
        if reason := unlearnable(self.base_dir, self.settings.queue.prompt_tokens):
            raise UpdateRefused(f"This model cannot be learned, for {reason}.")
        learn = self.settings.update
        torch.set_num_threads(self._threads(learn))
        llm = load_to_learn(self.settings, self.base_dir)
        if reason := inexact(llm):
            raise UpdateRefused(f"This model cannot be learned, for {reason}.")
        gate = self.settings.gate
        return Evaluator(llm, self.suites, learn.seed, learn.max_tokens, gate.answer_tokens, gate.task_tokens)

    def _threads(self, learn: UpdateSettings) -> int:
        """As set, or as many as it began with: their number decides the last digits of sums."""
        return learn.threads or self.record.threads or idle_cores()

    def _try_out(self, llm: LocalModel, learn: UpdateSettings, suites: Suites) -> None:
        """Offer a fresh adapter, which changes nothing, to the engine that serves, if one runs: raises UpdateRefused where
        what would be learned could not be served."""
        try:
            config = lora(llm.model, learn)
        except TargetError as error:
            raise UpdateRefused(str(error)) from None
        engine = EngineRollouts.found(self.state)
        if engine is None:
            return
        llm.add_adapter(OFFERED, config, learn.seed)
        try:
            reason = engine.refusal(llm, OFFERED, llm.render(suites.calibration[0].messages))
        finally:
            llm.drop_adapter(OFFERED)
        if reason:
            raise UpdateRefused(f"The engine at {engine.url} serves no adapter such as would be learned: {reason}")

    def _gap(self, evaluator: Evaluator) -> Gap:
        """The base's entropy gap, which its calibration saw where it had the same judge and suite."""
        known, suites = self._known_calibration(), evaluator.suites
        if known is not None and not evaluator.stale(known):
            told: Any = known.figures.get("entropy_gap")
            if told:
                return Gap.from_json(told)
        return entropy_gap(evaluator.llm, suites.calibration, suites.judge, **evaluator.limits)

    def _base_calibration(self, evaluator: Evaluator) -> Calibration:
        """The base's calibration as it is on disk or came with the model; made anew where it is another model's, or was made
        for another chat template or quantisation, or measured by another judge or suite. Raises Refused for a reasoning
        model."""
        found = self._known_calibration()
        if found is None or evaluator.stale(found):
            self.record.progress("calibrating the base")
            found = evaluator.calibrated("base", self.registry.base, self.settings.calibrate)
            found.save(self.state.calibration_path("base"))
        self._refuse_reasoning(found)
        return found

    def _known_calibration(self) -> Calibration | None:
        """The base's calibration as it is on disk or came with the model, if it is this model's."""
        try:
            found = Calibration.load(self.state.find_calibration("base", self.base_dir))
        except CalibrationError:
            return None
        return found if found.model == self.registry.base else None

    def _refuse_reasoning(self, known: Calibration | None) -> None:
        """The objective's tree begins where an answer does, and a reasoning model's prompt ends before that."""
        if known is not None and known.openings.reasoning:
            raise UpdateRefused(
                "This model reasons before it answers, which the learner does not do yet: guard it without learning."
            )

    def _data(
        self, llm: LocalModel, buffer: Buffer, base: Calibration, learn: UpdateSettings
    ) -> tuple[TrainingSet, Selection, str]:
        """As much as the steps can look at, as the base sorts it and quotas leave it, and the digest of all that decides."""
        training_set, selection, counts = self._chosen(llm, buffer, base, learn)
        self.story["queue"] = counts
        held = ", ".join(f"{count} {name}" for name, count in self.story["queue"].items() if count and name not in ADMITTED)
        beside = f" ({held}: `sirl queue` and the queue.* settings)" if held else ""
        count = len(training_set.prompts) + len(training_set.held)
        if count < learn.min_prompts:
            raise UpdateRefused(
                f"The buffer holds {count} distinct prompts that may teach{beside} and update.min_prompts asks for "
                f"{learn.min_prompts}: wait for more traffic."
            )
        self.story["bands"] = {name: len(getattr(selection, name)) for name in ("high", "grey", "low")}
        self.story["bands"]["of these the model's own"] = len(selection.prompts) - len(training_set.prompts)
        if len(selection.high) < learn.contested_per_step or not selection.low:
            raise UpdateRefused(
                f"Of {count} buffered prompts{beside} {len(selection.high)} are contested and "
                f"{len(selection.low) + len(training_set.held)} are not: at least {learn.contested_per_step} of the first "
                "and some of the second are needed."
            )
        return training_set, selection, training_set.digest(selection, base, learn, self.registry.base)

    def _chosen(
        self, llm: LocalModel, buffer: Buffer, base: Calibration, learn: UpdateSettings
    ) -> tuple[TrainingSet, Selection, dict[str, int]]:
        """What the queue and its quotas leave, and how many prompts had which fate."""
        self.record.progress("selecting")
        salt, added = self.state.client_salt(), added_tokens(self.base_dir)
        queue = Queue.of(buffer, self.registry.base, self.record.cutoff, self.settings, salt, added)
        summarise(self.state, queue)
        training_set, selection, left = TrainingSet.chosen(queue, llm, base, learn, self.settings.queue)
        self.record.progress("selecting")
        return training_set, beside_own(llm, selection, base, learn), queue.counts() | left

    @contextmanager
    def _rollouts(self, learn: UpdateSettings) -> Iterator[RolloutSource]:
        """The engine that is wished for, where one runs or starts; else the model itself."""
        with ExitStack() as stack:
            found, why = None, f"no endpoint runs on {self.state.path}"
            if learn.rollouts == "engine":
                found = EngineRollouts.found(self.state)
            elif learn.rollouts == "own" and self.launch is not None:
                try:
                    found = EngineRollouts.found(stack.enter_context(self.launch()))
                except SirlError as error:
                    why = str(error)
            if found is None and learn.rollouts != "transformers":
                log.warning("update.rollouts is '%s', but the learner draws itself: %s", learn.rollouts, why)
            yield found or LocalRollouts()

    def _look(self, evaluator: Evaluator, base: Calibration) -> tuple[Callable[[], OnTheWay], str]:
        """A look at held-out prompts, what they say of the adapter as it is now; and the digest of what decides that. Where
        the gate draws from the same suite, a look chooses no step for it: it would be judged by what it was chosen by."""
        suites, gate = evaluator.suites, self.settings.gate
        prompts = draw_held_out(suites.validation, self.settings.update.look_prompts)
        apart = suites.gate != suites.validation
        decisive = json.dumps([gate.model_dump(mode="json"), [prompt.id for prompt in prompts], apart])
        before = cache(lambda: evaluator.scored(HeldOut(prompts), base.openings, None))

        def look() -> OnTheWay:
            now = evaluator.scored(HeldOut(prompts), base.openings, ADAPTER)
            found = on_the_way(prompts, now, before(), gate)
            return found._replace(within=found.within and apart)

        return look, hashlib.sha256(decisive.encode()).hexdigest()

    def _published(self, key: str) -> int | None:
        """The version that this update made before it was killed."""
        for adapter in self.registry.versions():
            manifest = adapter.manifest
            if manifest.get("data_fingerprint") == key and manifest["metrics"].get("update") == self.record.id:
                return adapter.version
        return None

    def _publish(self, llm: LocalModel, key: str, learn: UpdateSettings, ledger: Ledger, metrics: dict[str, Any]) -> int:
        with self.registry.stage() as staged:
            llm.save_adapter(ADAPTER, staged)
            ledger.save(staged)
            return self.registry.publish(
                staged,
                parent=None,
                settings=learn.model_dump(mode="json"),
                data_fingerprint=key,
                metrics={"update": self.record.id, **metrics},
            )

    def _settled(self, version: int) -> bool:
        """Whether its gate has decided about a version."""
        known = (self.registry.path(version) / "evaluation.json").exists()
        return known and self.registry.evaluation(version).get("decision") != "undecided"

    def _decide(self, evaluator: Evaluator, version: int, base: Calibration, traffic: Sequence[Tokens]) -> Ending:
        """Calibrate the candidate, gate it, and promote it if it passed and nobody is to be asked first."""
        if not self._settled(version):
            report, steady = self._gate(evaluator, version, base, traffic)
            for line in report.lines():
                self.bar.write(line)
            decided = {"decision": DECISIONS[report.decision], "best": steady}
            self.registry.attach(version, "evaluation", report.to_json() | decided)
        return self._concluded(version)

    def _concluded(self, version: int) -> Ending:
        """What follows from what its gate found about a version."""
        found = self.story["gate"] = self.registry.evaluation(version)
        if not found:
            raise RegistryError(
                f"what the gate found about v{version} cannot be read, or nobody trusted signed it: sign it if it is yours "
                f"(`sirl adapters sign v{version}`), or remove {self.registry.path(version)}."
            )
        back = self.registry.manifest(version)["metrics"].get("went_back")
        mended = f"Once that is mended, `sirl adapters gate v{version}` asks again."
        reasons = (*found["reasons"], *([mended] if found["decision"] == "undecided" else []), *([back] if back else []))
        released = self.registry.releasing()
        if found["decision"] != "promoted" or version in (self.registry.live(), released and released.version):
            return found["decision"], reasons, version
        if self.settings.gate.approval:
            return "waiting", (f"It passed its gate and waits for approval: `sirl adapters activate v{version}`.",), version
        reason = f"update {self.record.id} passed its gate"
        stage = advance(self.registry, self.settings.release, version, actor="learner", reason=reason)
        told = () if stage is None else (f"It comes to serve by stages, of which the first is {stage}.",)
        return "promoted", (*reasons, *told), version

    def _gate(
        self, evaluator: Evaluator, version: int, base: Calibration, traffic: Sequence[Tokens]
    ) -> tuple[GateReport, int]:
        """Weigh the candidate against the base and, where an adapter serves, against that and the best that ever served; and
        which version defence is held against, should it be promoted."""
        settings, suites = self.settings.gate, evaluator.suites
        try:
            own = self._own_calibration(evaluator, version)
        except CalibrationError as error:
            return GateReport("reject", (str(error),), {}, {}), version
        adapters: dict[str, str | None] = {CANDIDATE: ADAPTER, "base": None}
        live = self.registry.live()
        peak = self._peak(live)
        for name, other in (("live", live), ("best", peak)):
            if other not in (None, version) and not (name == "best" and other == live):
                evaluator.llm.load_adapter(name, self.registry.path(other))
                adapters[name] = name
        openings = Openings((*base.openings.sequences, *own.openings.sequences))
        prompts = draw_held_out(suites.gate, settings.prompts_per_class, self.record.id)
        held_out = HeldOut(prompts, suites.extra, suites.vetoes, traffic[: settings.replayed])
        turns = 2 * len(adapters) * settings.looks
        self.record.progress("gating", 0, turns)
        began, done = time.monotonic(), count(1)
        with self.bar(total=turns, desc="gating", unit="part") as bar:

            def shown() -> None:
                bar.update()
                over = next(done)
                left = (turns - over) * (time.monotonic() - began) / over  # it may end at an earlier look
                self.record.progress("gating", over, turns, left)

            examined = _Examined(evaluator, held_out, openings, adapters, shown)
            references = [name for name in adapters if name != CANDIDATE]
            report = examine(held_out, examined, references, settings, self.record.id)
        return report, best(report.lost("best" if "best" in adapters else "live"), version, peak)

    def _peak(self, live: int | None) -> int | None:
        """The version of the best defence among what serves and served, as what serves was told when it was promoted; what
        serves where that is gone."""
        if live is None:
            return None
        peak = self.registry.evaluation(live).get("best", live)
        try:
            self.registry.verify(peak)
        except RegistryError:
            return live
        return int(peak)

    def _own_calibration(self, evaluator: Evaluator, version: int) -> Calibration:
        """The candidate's calibration, made unless it has one."""
        path = self.registry.calibration_path(f"v{version}")
        if path.exists():
            self.registry.vouch(f"v{version}")
            if not evaluator.stale(found := Calibration.load(path)):
                return found
        self.record.progress("calibrating the candidate")
        with evaluator.llm.adapter(ADAPTER):
            made = evaluator.calibrated(f"v{version}", self.registry.base, self.settings.calibrate)
        self.registry.attach(version, "calibration", made.to_json())
        return made
