"""The release under way: which clients get the new version, how it is compared, and what follows.

The prompts that are looked at go through the engine once more as internal traffic, behind all that clients ask: the base
reads each for one token, which says whether it hesitates there; and at the shadow stage the version on its way answers it,
unseen.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
from collections.abc import Coroutine
from functools import partial
from time import monotonic
from typing import Protocol

from guard.errors import SirlError
from guard.policy import Action
from online.registry.registry import Registry
from online.registry.release_record import Release
from online.registry.release_stages import advance
from online.registry.release_statistics import Comparison, Response
from online.settings.groups import ReleaseSettings
from serving.engine.adapters import BASE, Adapters
from serving.metrics import Metrics
from serving.request.exchange import ServedAnswer

log = logging.getLogger("sirl")

ACTOR = "health"
"""Who moves releases on and takes versions back, in the audit log."""
GONE_S, GONE_LOOKS = 0.1, 300
"""Between two looks at whether a version has left the engine, and how many are taken."""


class Asker(Protocol):
    """The engine, asked by ourselves (serving/engine/rollouts.py); at most `most` at one time."""

    most: int

    async def cleanse(self) -> None: ...
    async def looked_at(self, prompt: tuple[int, ...]) -> ServedAnswer: ...
    async def answered_by(self, adapter: str, like: ServedAnswer) -> ServedAnswer: ...


class Releases:
    """The release under way, if there is one. All calls come from the server's event loop."""

    def __init__(
        self, registry: Registry, adapters: Adapters, asker: Asker, settings: ReleaseSettings, metrics: Metrics
    ) -> None:
        self.registry, self.adapters, self.asker = registry, adapters, asker
        self.settings, self.metrics = settings, metrics
        self.release: Release | None = None
        self.comparison = Comparison(settings)
        self.failures: dict[str, str] = {}
        """Versions that must go at once, each with the reason, until they have."""
        self._suspected: set[str] = set()
        self._complaint = ""
        self._began = 0.0
        self._settling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rng = random.Random()

    def follow(self, release: Release | None) -> None:
        """Take up what live.json says is on its way; what was compared before counts no more."""
        if release == self.release:
            return
        self.release, self.comparison, self._began = release, Comparison(self.settings), monotonic()
        self.metrics.release(release.stage if release else None)
        if release is not None:
            log.info("v%d is on its way: %s, a share of %g", release.version, release.stage, release.share)

    def adapter_for(self, client: str) -> str | None:
        """The version on its way where this client (a hash) is among those who get it, always the same ones for one version;
        None for all others."""
        release = self.release
        if release is None or release.stage != "canary" or not client:
            return None
        name = f"v{release.version}"
        drawn = int.from_bytes(hashlib.sha256(f"{client} {name}".encode()).digest()[:8]) / 2**64
        return name if drawn < release.share and name in self.adapters.slots and name not in self.failures else None

    def finished(self, answer: ServedAnswer) -> None:
        """One more answer to a client: is its version broken, and is it to be compared?"""
        if not answer.prompt_tokens:
            return
        if broken(answer):
            self._later(self.confirm(answer))
        elif (release := self.release) is not None and len(self._tasks) < self.asker.most:
            new, chance = answer.adapter == f"v{release.version}", self._rng.random()
            if release.stage == "shadow":
                if answer.adapter == self.adapters.live and not answer.spoken and chance < release.share:
                    self._later(self.shadow(release, answer))
            elif new or (
                answer.adapter == self.adapters.live and chance < release.share / max(1 - release.share, release.share)
            ):
                self._later(self.canary(answer, new=new))  # as many of the others as of the version on its way

    async def confirm(self, answer: ServedAnswer) -> None:
        """An answer without one number: if the base gives numbers on the same prompt, it is its version's fault. What it
        leaves in the engine breaks the answers of others, so it is removed now, and once more when the version is gone."""
        name = answer.adapter
        if name in self._suspected:
            return
        self._suspected.add(name)
        try:
            log.warning("an answer of %s came without one number: the base is asked the same", name)
            await self.asker.cleanse()
            looked = (await self.asker.looked_at(answer.prompt_tokens)).record.entropies
            if any(math.isfinite(entropy) for entropy in looked):
                await self.fail(name, "its answers are made of numbers that are none (NaN)")
                for _ in range(GONE_LOOKS):
                    if name not in self.adapters.slots:
                        break
                    await asyncio.sleep(GONE_S)
                await self.asker.cleanse()
        finally:
            self._suspected.discard(name)

    async def fail(self, adapter: str, why: str) -> None:
        """A version must go at once: it is taken back, or, where it serves, the one before it serves again."""
        self.failures[adapter] = why
        await self.look()

    async def shadow(self, release: Release, answer: ServedAnswer) -> None:
        """Have the version on its way answer what somebody was just answered, and compare the two."""
        comparison, name = self.comparison, f"v{release.version}"
        low = await self.low(answer)
        theirs = await self.asker.answered_by(name, answer)
        if theirs.adapter != name:
            return  # it left meanwhile
        if all(math.isnan(h) for h in theirs.record.entropies):
            return await self.confirm(theirs)
        comparison.add(response(answer, low), new=False)
        comparison.add(response(theirs, low), new=True)

    async def canary(self, answer: ServedAnswer, *, new: bool) -> None:
        """Note an answer that a client got. Of one that the guard ended there is nothing to compare but that."""
        comparison = self.comparison
        comparison.add(response(answer, False if answer.spoken else await self.low(answer)), new=new)

    async def low(self, answer: ServedAnswer) -> bool:
        """Whether the base does not hesitate on a prompt, by its first token; where it cannot tell, every prompt counts."""
        if (calibration := self.adapters.slots[BASE].calibration) is None:
            return True
        mass = (await self.asker.looked_at(answer.prompt_tokens)).record.refusal_mass
        return mass is None or calibration.serving_mass.band(mass) == "low"

    async def look(self) -> None:
        """Take back what must go, and move on or take back what is on its way, as was found."""
        for side, count in zip(("serving", "new"), self.comparison.compared, strict=True):
            self.metrics.release_compared.labels(side).set(count)
        async with self._settling:
            complaint = ""
            try:
                await self._settle()
            except SirlError as error:  # somebody else decided, which the next look takes up; or the disk: it tries again
                complaint = str(error)
            if complaint and complaint != self._complaint:
                log.warning("the release: %s", complaint)
            self._complaint = complaint

    async def _settle(self) -> None:
        release = self.release
        for name in [name for name in self.failures if release is None or name != f"v{release.version}"]:
            await self._roll_back(name)
        if release is None:
            return
        name = f"v{release.version}"
        if reason := self.failures.get(name) or self.comparison.worse():
            await asyncio.to_thread(self.registry.release, None, actor=ACTOR, reason=reason, instead=release)
            self.metrics.releases.labels("withdrawn").inc()
            log.error("%s was taken back at the stage %s: %s", name, release.stage, reason)
        elif found := self._over():
            move = partial(
                advance, self.registry, self.settings, release.version, actor=ACTOR, reason=found, instead=release
            )
            if await asyncio.to_thread(move) is None:
                self.metrics.releases.labels("promoted").inc()
        else:
            return
        self.failures.pop(name, None)
        self.follow(None)  # until live.json is read again

    async def _roll_back(self, name: str) -> None:
        """What served before `name` serves again, unless `name` serves no more."""
        live = await asyncio.to_thread(self.registry.live)
        if live is not None and f"v{live}" == name:
            back = await asyncio.to_thread(self.registry.rollback, actor=ACTOR, reason=self.failures[name])
            self.metrics.rollbacks.inc()
            log.error("%s was taken back, for %s: %s serves again", name, self.failures[name], f"v{back}" if back else BASE)
        del self.failures[name]

    def _over(self) -> str | None:
        """Why the stage is over, where it is."""
        if self.comparison.enough:
            return "nothing was found in {} and {} responses".format(*self.comparison.compared)
        if monotonic() - self._began >= 60 * self.settings.minutes:
            return f"nothing was found in {self.settings.minutes:g} minutes"
        return None

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a response could not be compared: %r", error)


def broken(answer: ServedAnswer) -> bool:
    """Whether an answer of a version of ours came without one number: its model's, or nothing was measured."""
    entropies = answer.record.entropies
    return answer.adapter not in (BASE, "other") and bool(entropies) and all(math.isnan(h) for h in entropies)


def response(answer: ServedAnswer, low: bool) -> Response:
    """An answer as it is compared."""
    record = answer.record
    return Response(
        low=low,
        refused=record.opening_matched,
        length=len(record.tokens),
        entropy=record.entropy_mean,
        halted=answer.action not in (Action.NONE, Action.REDRAW),
        ttft=answer.request.ttft,
    )
