"""The parts of a running endpoint, and the loop that keeps them in step with the state directory.

The registry's live.json says what serves; whoever may write it (the learner's gate, an operator's command, the admin API)
activates by writing, and the loop here carries it out. So a restart, a crash half-way or a second process needs no case of
its own: the engine is brought to what the file says.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic, time
from typing import Literal, Protocol

from guard.calibration import Calibration, CalibrationError, Conditions
from guard.errors import SirlError
from online.admission.review import summary
from online.events.buffer import Buffer, BufferError
from online.events.event import Event
from online.events.redaction import Preparation, Redaction, without_text
from online.events.writer import BufferWriter
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.sync import RegistrySync
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.updates import progress
from serving.engine.adapters import BASE, Adapters, Loader
from serving.engine.lora_budget import ROOM
from serving.engine.rollouts import RolloutEngine, RolloutService
from serving.engine.version import EngineError
from serving.lifecycle.release import Releases
from serving.lifecycle.response_recorder import ResponseRecorder
from serving.metrics import UPDATE_OUTCOMES, Metrics
from serving.processes.learner_process import LearnerProcess
from serving.request.offered_models import OfferedModels
from serving.request.policies import Policies

log = logging.getLogger("sirl")

PERIOD_S = 0.25
"""How often the state directory is looked at: a few file stats."""
RETRY_S = 5.0
"""Between two attempts to load a version that could not be loaded."""
CONTESTED_EVERY = 20
"""Looks between two counts of the contested events, which ask the database."""


class Engine(Loader, RolloutEngine, Protocol):
    """What is asked of the engine here."""

    assigned: Callable[[str], str | None]


class Tokenizer(Protocol):
    """What is asked of the model's tokenizer here."""

    def decode(self, tokens: Sequence[int], /) -> str: ...

    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]: ...


class Service:
    """Holds settings, state, buffer, adapters and learner of one endpoint; `run` keeps them in step."""

    def __init__(
        self,
        settings: Settings,
        model: Path | str,
        fingerprint: str | None,
        learner: LearnerProcess,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings, self.model, self.fingerprint, self.learner = settings, model, fingerprint, learner
        self.state = StateDir(settings.state_dir)
        self.registry = Registry(self.state, fingerprint, settings.registry) if fingerprint else None
        self.policies = Policies(settings.guard)
        self.metrics = metrics or Metrics()
        self.buffer = BufferWriter(
            self.open_buffer, self.state, settings.buffer, prepare=lambda events: self.prepared(events)
        )
        salt = self.state.client_salt()
        self.prepared: Callable[[Sequence[Event]], Sequence[Event]] = lambda events: [without_text(e, salt) for e in events]
        """What the buffer gets of events; until the model's tokenizer is there, nothing that can be read."""
        self.problems: dict[str, str] = {}
        """What is wrong now, by part, in sentences: shown in `status` and logged once when it changes."""
        self.engine_facts: dict = {}
        self.conditions: Conditions | None = None
        """What the model is served under, once the engine is there."""
        self.reservations: dict[str, str] = {}
        """What is to be known of calibrations that are used, by adapter: shown in `status`."""
        self.modules: dict[str, Literal["exempt", "uncalibrated"]] = {}
        """The operator's own LoRA modules: which may answer unguarded, and which are refused where they would be guarded."""
        self.reasoning_parser = ""
        """vLLM's parser of the model's reasoning, where it was given one."""
        self.preparation: Preparation | None = None
        self.redaction: Redaction
        self.adapters: Adapters
        self.watch: ResponseRecorder
        self.rollouts: RolloutService
        self.releases: Releases | None = None
        self.names: tuple[str, ...] = ()
        """The model's names, as clients know it."""
        self.offered: Callable[[Sequence[str]], None] = lambda names: None
        """Tells vLLM under which further names the model is to be had."""
        self.looking = asyncio.Lock()
        """Held while the queue is looked through, which takes a second of a core."""
        self._stamp: object = None
        self.failed_on: object = None
        """The stamp of live.json that could not be carried out, while it could not."""
        self._retry_at = 0.0
        self._calibrations: dict[str, object] = {}
        self._outcomes: set[str] = set()
        self._shed = self._refused = 0
        self._sharing: asyncio.Task | None = None

    def open_buffer(self) -> Buffer:
        """A connection to the events' database; raises BufferError."""
        return Buffer(self.settings.buffer.url or self.state.buffer_url, self.settings.buffer)

    def attach(self, engine: Engine, tokenizer: Tokenizer, share: int) -> ResponseRecorder:
        """Take charge of an engine's adapters and judge its answers; one of `share` sequences may be a rollout. Raises
        RedactionError where redaction asks for what is not installed."""
        encode = partial(tokenizer.encode, add_special_tokens=False)
        self.prepared = self.preparation = Preparation(self.settings.buffer, encode, self.state.client_salt())
        self.redaction = self.preparation.redaction
        self.adapters = Adapters(engine, self.swapped, ROOM + self.settings.release.pins)
        self.rollouts = RolloutService(engine, self.adapters, self.state, share)
        self.watch = ResponseRecorder(
            self.adapters, self.buffer, self.metrics, tokenizer.decode, model=self.fingerprint or ""
        )
        if self.registry is not None:
            self.releases = Releases(self.registry, self.adapters, self.rollouts, self.settings.release, self.metrics)
            self.watch.compare, engine.assigned = self.releases.finished, self.releases.adapter_for
        return self.watch

    def swapped(self, name: str, seconds: float) -> None:
        self.metrics.swap_duration.observe(seconds)
        self.metrics.live(name)
        log.info("new responses get %s (swapped in %.0f ms)", name, seconds * 1000)

    def take_modules(self, names: Iterable[str]) -> None:
        """Note the operator's own LoRA modules, and say so where requests for them will be refused."""
        exempt = self.settings.guard.exempt_modules
        self.modules = {name: "exempt" if name in exempt else "uncalibrated" for name in names}
        refused = ", ".join(name for name, state in self.modules.items() if state == "uncalibrated")
        enforced = any(policy.enforces for policy in (self.policies.default, *self.policies.keys.values()))
        trouble = (
            f"Requests for the LoRA modules {refused}, which are not calibrated, are refused where they are to be guarded"
        )
        mend = ": name those that may answer unguarded in guard.exempt_modules."
        self.problem("modules", trouble + mend if refused and enforced else None)

    def problem(self, part: str, message: str | None) -> None:
        """Note what is wrong with a part, or that nothing is any more; a change is logged once."""
        if message is None:
            if self.problems.pop(part, None) is not None:
                log.info("%s is sound again", part)
        elif self.problems.get(part) != message:
            self.problems[part] = message
            log.warning("%s: %s", part, message)

    async def run(self) -> None:
        """Keep in step until cancelled."""
        self._outcomes = {update["id"] for update in progress.finished(self.state, set())}
        if self.registry is not None and self.registry.store is not None:
            self._sharing = asyncio.create_task(self.share(RegistrySync(self.state, self.registry, self.registry.store)))
            self._sharing.add_done_callback(self.stopped)
        for tick in itertools.count():
            try:
                await self.look(tick)
            except (SirlError, EngineError, OSError) as error:
                self.problem("state directory", f"{error} What serves goes on; this is tried again.")
            else:
                self.problem("state directory", None)
            await asyncio.sleep(PERIOD_S)

    async def share(self, share: RegistrySync) -> None:
        """Keep registry and store the same until cancelled, off the event loop: a dead store holds up nothing."""
        try:
            while True:
                self.problem("store", await asyncio.to_thread(share.attempt))
                await asyncio.sleep(self.settings.registry.pull_interval_s)
        finally:
            share.close()  # the thread is waited for when the process ends

    async def look(self, tick: int) -> None:
        """One round: adapters, calibrations, the release, gauges, learner, and now and then the contested events."""
        await self.reconcile()
        await self.calibrate()
        if self.releases is not None:
            await self.releases.look()
        self.measure()
        self.learner.check()
        if tick % CONTESTED_EVERY == 0:
            await self.count_contested()

    def stopped(self, task: asyncio.Task) -> None:
        """Note that `run` ended by a defect of ours: responses still go out, so it is said and not made worse."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the loop that watches the state directory ended", exc_info=error)
            self.problem("service", f"The loop that swaps and measures ended ({error!r}): restart the server.")

    async def reconcile(self) -> None:
        """Bring the engine to what the registry says: the version that is live, the one on its way, and the pinned ones.

        Where there is no room for one yet the next look tries again; where it fails the one before stays, and what failed is
        tried again after RETRY_S, for a disk or an engine may have been short of something.
        """
        if self.registry is None or self.releases is None:
            return
        stamp = self.registry.watch_stamp()
        if stamp == self._stamp or (stamp == self.failed_on and monotonic() < self._retry_at):
            return
        try:
            live = self.registry.live()
            if live is None:
                done = await self.adapters.activate(BASE, None, None)
            else:
                done = await self.bring(self.registry, live, self.adapters.activate)
            done &= await self.hold(self.registry, self.releases)
        except (SirlError, EngineError) as error:
            if stamp != self.failed_on:
                self.metrics.swap_failures.inc()
            self.failed_on, self._retry_at = stamp, monotonic() + RETRY_S
            self.problem("adapters", f"{error} Until then {self.adapters.live} stays live.")
        else:
            self.failed_on = None
            if done:
                self._stamp = stamp
                self.problem("adapters", None)
            self.offer()

    async def bring(
        self, registry: Registry, version: int, into: Callable[[str, Path, Calibration | None], Awaitable[bool]]
    ) -> bool:
        """Verify a version and have it loaded, live or held; False where there is no room yet. Raises SirlError and
        EngineError."""
        await asyncio.to_thread(registry.verify, version)  # it hashes every file
        name = f"v{version}"
        return await into(name, registry.path(version), self.load_calibration(name))

    async def hold(self, registry: Registry, releases: Releases) -> bool:
        """Hold the version on its way and the pinned ones, and no others; one that cannot be loaded is taken off its way, or
        is a problem. False where there is no room yet for all of them."""
        release, pins = registry.releasing(), registry.pins()
        wanted = dict.fromkeys([*([release.version] if release else []), *pins[: self.settings.release.pins]])
        await self.adapters.let_go(self.adapters.held - {f"v{version}" for version in wanted})
        excess = len(pins) - self.settings.release.pins
        trouble = f"{excess} more are pinned than release.pins = {self.settings.release.pins}: unpin, or raise it."
        self.problem("pins", trouble if excess > 0 else None)
        done = True
        for version in wanted:
            try:
                done &= await self.bring(registry, version, self.adapters.hold)
            except (SirlError, EngineError) as error:
                if release is not None and version == release.version:
                    releases.follow(release)
                    await releases.fail(f"v{version}", f"it could not be loaded ({error})")
                    return False
                self.problem("pins", f"{error} It is not offered to clients.")
        if done:
            releases.follow(release)
        return done

    def offer(self) -> None:
        """Tell vLLM the names by which clients may have one version for good: NAME@base, NAME@v7."""
        self.offered(self.offers().listed)

    def offers(self) -> OfferedModels:
        """The versions that clients may ask for by name: the base, the live one and those that are pinned."""
        on_its_way = self.releases and self.releases.release and f"v{self.releases.release.version}"
        return OfferedModels(self.names, self.adapters.live, tuple(sorted(self.adapters.held - {on_its_way})))

    async def calibrate(self) -> None:
        """Take up calibrations that are new or changed on disk, for the base and for every loaded adapter."""
        for name in list(self.adapters.slots):
            path = self.state.find_calibration(name, Path(self.model))
            stamp = path.stat().st_mtime_ns if path.exists() else None
            if (str(path), stamp) != self._calibrations.get(name):
                self._calibrations[name] = (str(path), stamp)
                await self.adapters.calibrate(name, self.load_calibration(name))
        for name in self._calibrations.keys() - self.adapters.slots.keys():
            del self._calibrations[name]
            self.reservations.pop(name, None)
            self.problems.pop(f"calibration of {name}", None)
        live = self.adapters.slots[self.adapters.live]
        self.metrics.calibrated.set(live.calibration is not None)
        unguarded = live.calibration is None and self.policies.default.enforces
        trouble = f"No calibration fits {live.name}: its responses pass unguarded though guard.mode is enforce."
        self.problem("enforcement", trouble if unguarded else None)

    def load_calibration(self, name: str) -> Calibration | None:
        """The calibration of an adapter if it fits the model served; else None, and the reason is a problem."""
        part, path = f"calibration of {name}", self.state.find_calibration(name, Path(self.model))
        try:
            if self.registry is not None:
                self.registry.vouch(name)
            calibration = Calibration.load(path)
        except (CalibrationError, RegistryError) as error:
            self.problem(part, str(error))
            return None
        if calibration.model != self.fingerprint or calibration.adapter != name:
            self.problem(part, f"{path} is stale, made for another model or adapter: run `sirl calibrate` again.")
            return None
        if self.conditions is not None and (stale := calibration.unlike(self.conditions)):
            self.problem(part, f"{path} is stale, made for {stale}: run `sirl calibrate` again.")
            return None
        if self.reasoning_parser and calibration.openings.reasoning is None:
            self.problem(part, f"{path} saw no reasoning, which --reasoning-parser tells of: run `sirl calibrate` again.")
            return None
        self.problem(part, None)
        self.reserve(name, calibration)
        return calibration

    def reserve(self, name: str, calibration: Calibration) -> None:
        """Note what is to be known of a calibration that is used; a change is logged once."""
        reservation = None if self.conditions is None else calibration.reservation(self.conditions)
        if reservation is None:
            self.reservations.pop(name, None)
        elif self.reservations.get(name) != reservation:
            self.reservations[name] = reservation
            log.info("the calibration of %s %s", name, reservation)

    def measure(self) -> None:
        """Bring gauges and counters to what buffer, learner and updates are now."""
        metrics, buffer = self.metrics, self.buffer
        metrics.buffer_events.set(buffer.size)
        metrics.buffer_pending.set(buffer.pending)
        metrics.buffer_failing.set(buffer.failing)
        metrics.buffer_shed.inc(buffer.shed - self._shed)
        self._shed = buffer.shed
        metrics.buffer_refused.inc(buffer.refused - self._refused)
        self._refused = buffer.refused
        metrics.learner_up.set(self.learner.running)
        away = "Its database cannot be written: events wait in the state directory's journal; mend it or its URL."
        self.problem("buffer", away if buffer.failing else None)
        self.problem("buffer's place", buffer.remark or None)
        finished = progress.finished(self.state, self._outcomes)
        for update in finished:
            self._outcomes.add(update["id"])
            metrics.updates.labels(update["status"] if update["status"] in UPDATE_OUTCOMES else "failed").inc()
            metrics.update_duration.observe(update["seconds"])
        metrics.update_progress.set(progress.ratio(self.state))
        for fate, count in summary(self.state).items():
            metrics.queue.labels(fate).set(count)

    async def count_contested(self) -> None:
        """Bring the gauge of waiting contested events up to date; the database is asked off the event loop."""

        def count() -> int:
            buffer = self.open_buffer()
            try:
                last = progress.last_started(self.state, 0.0)
                return buffer.contested_since(last, self.fingerprint or "", time())
            finally:
                buffer.close()

        with suppress(BufferError):  # the writer's own failure is reported by `measure`
            self.metrics.contested_waiting.set(await asyncio.to_thread(count))

    def close(self) -> None:
        """Stop the learner, write what was acknowledged."""
        if self._sharing is not None:
            self._sharing.cancel()
        self.learner.stop()
        self.buffer.close()
        if self.preparation is not None:
            self.preparation.close()
