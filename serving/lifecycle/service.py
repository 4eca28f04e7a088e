"""The parts of a running endpoint, and the loop that keeps them in step with the state directory.

The registry's live.json says what serves; whoever may write it (the learner's gate, an operator's command, the admin API)
activates by writing, and the loop here carries it out. So a restart, a crash half-way or a second process needs no case of
its own: the engine is brought to what the file says.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Literal, Protocol

from guard.calibration import Calibration
from guard.errors import SirlError
from guard.policy import OverRefusal
from online.events.redaction import Preparation
from online.events.writer import BufferWriter
from online.operations.installation import Installation
from online.registry.registry import Registry
from online.registry.sync import RegistrySync
from serving.engine.adapters import BASE, Adapters, Loader
from serving.engine.lora_budget import ROOM
from serving.engine.rollouts import RolloutEngine, RolloutService
from serving.engine.served import Served
from serving.engine.version import EngineError
from serving.lifecycle.calibrations import Calibrations
from serving.lifecycle.gauges import Gauges
from serving.lifecycle.problems import Problems
from serving.lifecycle.release import Releases
from serving.lifecycle.response_recorder import ResponseRecorder
from serving.metrics import Metrics
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


class Service:
    """All parts of one endpoint, whole once it is made; `run` keeps them in step. Raises RedactionError where redaction asks
    for what is not installed."""

    def __init__(
        self,
        installation: Installation,
        engine: Engine,
        served: Served,
        policies: Policies,
        learner: LearnerProcess,
        metrics: Metrics | None = None,
    ) -> None:
        self.installation, self.served, self.policies, self.learner = installation, served, policies, learner
        self.settings, self.state, self.metrics = installation.settings, installation.state, metrics or Metrics()
        self.problems = Problems()
        encode = partial(served.tokenizer.encode, add_special_tokens=False)
        self.preparation = Preparation(self.settings.buffer, encode, self.state.client_salt())
        self.buffer = BufferWriter(installation.open_buffer, self.state, self.settings.buffer, prepare=self.preparation)
        self.calibrations = Calibrations(installation, self.problems, served.conditions, served.reasoning_parser)
        self.adapters = Adapters(engine, self.swapped, ROOM + self.settings.release.pins)
        self.rollouts = RolloutService(engine, self.adapters, self.state, served.rollout_share)
        self.releases = self._releases()
        self.recorder = ResponseRecorder(
            self.adapters,
            self.buffer,
            self.metrics,
            served.tokenizer.decode,
            model=installation.fingerprint or "",
            compare=self.releases.finished if self.releases else None,
        )
        self.gauges = Gauges(installation, self.buffer, learner, self.metrics, self.problems)
        self.modules = self._modules()
        """The operator's own LoRA modules: which may answer unguarded, and which are refused where they would be guarded."""
        self.looking = asyncio.Lock()
        """Held while the queue is looked through, which takes a second of a core."""
        self.failed_on: object = None
        """The stamp of live.json that could not be carried out, while it could not."""
        self._stamp: object = None
        self._retry_at = 0.0
        self._sharing: asyncio.Task[None] | None = None

    def _releases(self) -> Releases | None:
        registry = self.installation.known
        if registry is None:
            return None
        return Releases(registry, self.adapters, self.rollouts, self.settings.release, self.metrics)

    def _modules(self) -> dict[str, Literal["exempt", "uncalibrated"]]:
        """Each module's state; where requests for some will be refused that is said."""
        exempt = self.settings.guard.exempt_modules
        states: dict[str, Literal["exempt", "uncalibrated"]] = {
            name: "exempt" if name in exempt else "uncalibrated" for name in self.served.modules
        }
        refused = ", ".join(name for name, state in states.items() if state == "uncalibrated")
        enforced = any(policy.enforces for policy in (self.policies.default, *self.policies.keys.values()))
        trouble = (
            f"Requests for the LoRA modules {refused}, which are not calibrated, are refused where they are to be guarded"
        )
        mend = ": name those that may answer unguarded in guard.exempt_modules."
        self.problems.note("modules", trouble + mend if refused and enforced else None)
        return states

    def assigned(self, client: str) -> str | None:
        """(hash of a client) -> the version on its way that it gets in place of the live one, if any."""
        return None if self.releases is None else self.releases.adapter_for(client)

    def swapped(self, name: str, seconds: float) -> None:
        self.metrics.swap_duration.observe(seconds)
        self.metrics.live(name)
        log.info("new responses get %s (swapped in %.0f ms)", name, seconds * 1000)

    async def run(self) -> None:
        """Keep in step until cancelled."""
        registry = self.installation.known
        if registry is not None and registry.store is not None:
            self._sharing = asyncio.create_task(self.share(RegistrySync(self.state, registry, registry.store)))
            self._sharing.add_done_callback(self.stopped)
        for tick in itertools.count():
            try:
                await self.look(tick)
            except (SirlError, EngineError, OSError) as error:
                self.problems.note("state directory", f"{error} What serves goes on; this is tried again.")
            else:
                self.problems.note("state directory", None)
            await asyncio.sleep(PERIOD_S)

    async def share(self, shared: RegistrySync) -> None:
        """Keep registry and store the same until cancelled, off the event loop: a dead store holds up nothing."""
        try:
            while True:
                self.problems.note("store", await asyncio.to_thread(shared.attempt))
                await asyncio.sleep(self.settings.registry.pull_interval_s)
        finally:
            shared.close()  # the thread is waited for when the process ends

    async def look(self, tick: int) -> None:
        """One round: adapters, calibrations, the release, gauges, learner, and now and then the contested events."""
        await self.reconcile()
        await self.calibrate()
        if self.releases is not None:
            await self.releases.look()
        self.gauges.measure()
        self.learner.check()
        if tick % CONTESTED_EVERY == 0:
            await self.gauges.count_contested()

    def stopped(self, task: asyncio.Task[None]) -> None:
        """Note that `run` ended by a defect of ours: responses still go out, so it is said and not made worse."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the loop that watches the state directory ended", exc_info=error)
            self.problems.note("service", f"The loop that swaps and measures ended ({error!r}): restart the server.")

    async def reconcile(self) -> None:
        """Bring the engine to what the registry says: the version that is live, the one on its way, and the pinned ones.

        Where there is no room for one yet the next look tries again; where it fails the one before stays, and what failed is
        tried again after RETRY_S, for a disk or an engine may have been short of something.
        """
        registry = self.installation.known
        if registry is None or self.releases is None:
            return
        stamp = registry.watch_stamp()
        if stamp == self._stamp or (stamp == self.failed_on and monotonic() < self._retry_at):
            return
        try:
            live = registry.live()
            if live is None:
                done = await self.adapters.activate(BASE, None, None)
            else:
                done = await self.bring(registry, live, self.adapters.activate)
            done &= await self.hold(registry, self.releases)
        except (SirlError, EngineError) as error:
            if stamp != self.failed_on:
                self.metrics.swap_failures.inc()
            self.failed_on, self._retry_at = stamp, monotonic() + RETRY_S
            self.problems.note("adapters", f"{error} Until then {self.adapters.live} stays live.")
        else:
            self.failed_on = None
            if done:
                self._stamp = stamp
                self.problems.note("adapters", None)
            self.offer()

    async def bring(
        self, registry: Registry, version: int, into: Callable[[str, Path, Calibration | None], Awaitable[bool]]
    ) -> bool:
        """Verify a version and have it loaded, live or held; False where there is no room yet. Raises SirlError and
        EngineError."""
        await asyncio.to_thread(registry.verify, version)  # it hashes every file
        name = f"v{version}"
        return await into(name, registry.path(version), self.calibrations.load(name))

    async def hold(self, registry: Registry, releases: Releases) -> bool:
        """Hold the version on its way and the pinned ones, and no others; one that cannot be loaded is taken off its way, or
        is a problem. False where there is no room yet for all of them."""
        release, pins = registry.releasing(), registry.pins()
        wanted = dict.fromkeys([*([release.version] if release else []), *pins[: self.settings.release.pins]])
        await self.adapters.let_go(self.adapters.held - {f"v{version}" for version in wanted})
        excess = len(pins) - self.settings.release.pins
        trouble = f"{excess} more are pinned than release.pins = {self.settings.release.pins}: unpin, or raise it."
        self.problems.note("pins", trouble if excess > 0 else None)
        done = True
        for version in wanted:
            try:
                done &= await self.bring(registry, version, self.adapters.hold)
            except (SirlError, EngineError) as error:
                if release is not None and version == release.version:
                    releases.follow(release)
                    await releases.fail(f"v{version}", f"it could not be loaded ({error})")
                    return False
                self.problems.note("pins", f"{error} It is not offered to clients.")
        if done:
            releases.follow(release)
        return done

    def offer(self) -> None:
        """Tell vLLM the names by which clients may have one version for good: NAME@base, NAME@v7."""
        self.served.offer(self.offers().listed)

    def offers(self) -> OfferedModels:
        """The versions that clients may ask for by name: the base, the live one and those that are pinned."""
        on_its_way = self.releases and self.releases.release and f"v{self.releases.release.version}"
        held = tuple(sorted(self.adapters.held - {on_its_way}))
        return OfferedModels(self.served.names, self.adapters.live, held)

    async def calibrate(self) -> None:
        """Take up calibrations that are new or changed on disk, for the base and for every loaded adapter."""
        await self.calibrations.take_up(self.adapters)
        live = self.adapters.slots[self.adapters.live]
        self.metrics.calibrated.set(live.calibration is not None)
        unguarded = live.calibration is None and self.policies.default.enforces
        trouble = f"No calibration fits {live.name}: its responses pass unguarded though guard.mode is enforce."
        self.problems.note("enforcement", trouble if unguarded else None)
        policies = (self.policies.default, *self.policies.keys.values())
        redraws = any(policy.enforces and policy.over_refusal is OverRefusal.REDRAW for policy in policies)
        known = live.calibration
        able = known is not None and known.sense is not None and known.sense.needless is not None and known.rule.sensed
        trouble = (
            f"The calibration of {live.name} calls no refusal needless, so none is drawn again: calibrate it with more "
            "harmful prompts that it refuses (`sirl calibrate` says how many)."
        )
        self.problems.note("over-refusals", trouble if redraws and not able else None)

    def close(self) -> None:
        """Stop the learner, write what was acknowledged."""
        if self._sharing is not None:
            self._sharing.cancel()
        self.learner.stop()
        self.buffer.close()
        self.preparation.close()
