"""Adapters in the engine: which one new responses get, and when an old one is removed.

A version's LoRA name and id are never used again (a reused name can serve stale prefix-cache blocks: vLLM #42125). New
responses lease the live version; the old one is removed from the engine when its last lease ends, never by a timer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

from vllm.lora.request import LoRARequest

from guard.calibration import Calibration
from guard.openings import Openings
from guard.sense import Sense
from serving.engine.adapter_labels import TRIAL, VERSION
from serving.engine.lora_budget import FIRST_ID, ROOM, TRIAL_ID, TRIALS

BASE = "base"


class Loader(Protocol):
    """The engine's side of a swap."""

    async def load_adapter(self, request: LoRARequest) -> None: ...
    async def unload_adapter(self, lora_id: int) -> None: ...
    async def set_openings(self, lora_id: int, openings: Openings | None) -> None: ...
    async def set_sense(self, lora_id: int, sense: Sense | None) -> str | None: ...


@dataclass(slots=True)
class Slot:
    """One adapter the engine may use: its name ("base" or "v<N>"), its LoRA request (None for base) and its users."""

    name: str
    lora_request: LoRARequest | None
    calibration: Calibration | None
    leases: int = 0
    sense: Sense | None = None
    """What the workers read of its prompts: its calibration's, or the base's."""
    unread: str | None = None
    """Why its harm sense cannot be read, in a sentence; None where it can, or there is none."""

    @property
    def openings(self) -> Openings | None:
        return self.calibration.openings if self.calibration else None

    @property
    def lora_id(self) -> int:
        return self.lora_request.lora_int_id if self.lora_request else 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What one engine call was given: it keeps it to its end."""

    name: str
    lora_request: LoRARequest | None
    calibration: Calibration | None
    sense: Sense | None = None
    """What the workers read of its prompt."""


class Adapters:
    """The slots in the engine; one of them live. All calls come from the server's event loop."""

    def __init__(self, engine: Loader, swapped: Callable[[str, float], None], room: int = ROOM) -> None:
        self.engine, self.swapped, self.room = engine, swapped, room
        self.slots: dict[str, Slot] = {BASE: Slot(BASE, None, None)}
        self.live = BASE
        self.held: frozenset[str] = frozenset()
        """Versions that stay though they are not live: the one on its way to serve, and those that clients may pin."""
        self._turn = asyncio.Lock()
        """One activation at a time, in the order asked."""
        self._lock = asyncio.Lock()
        """One load or removal at a time: a version that leaves must be gone before it may come again."""
        self._departures: set[asyncio.Task] = set()
        self._trials, self._trial_ids = asyncio.Semaphore(TRIALS), itertools.count(TRIAL_ID)

    @contextmanager
    def lease(self, asked: LoRARequest | None, pinned: str | None = None) -> Iterator[Lease]:
        """Hold an adapter for one engine call: the operator's own when the client named it, else the live one.

        `pinned` is the adapter that this request is for; one that is not loaded falls back to the live one, and the answer's
        `adapter` says so.
        """
        if asked is not None:
            yield Lease("other", asked, None)
            return
        slot = self.slots.get(pinned or self.live) or self.slots[self.live]
        slot.leases += 1
        try:
            yield Lease(slot.name, slot.lora_request, slot.calibration, slot.sense)
        finally:
            slot.leases -= 1
            if not slot.leases and not self._stays(slot.name):
                task = asyncio.get_running_loop().create_task(self._depart(slot))
                self._departures.add(task)
                task.add_done_callback(self._departures.discard)

    @asynccontextmanager
    async def trial(self, path: Path) -> AsyncIterator[LoRARequest]:
        """Hold an adapter in training for one batch of rollouts, in a slot of its own. Raises EngineError."""
        async with self._trials:
            number = next(self._trial_ids)
            request = LoRARequest(f"{TRIAL}{number}", number, str(path))
            async with self._lock:
                await self.engine.load_adapter(request)
            try:
                yield request
            finally:
                async with self._lock:
                    await self.engine.unload_adapter(number)

    async def calibrate(self, name: str, calibration: Calibration | None) -> None:
        """Give a loaded adapter its calibration (or none): workers measure by its openings from the next step on."""
        if slot := self.slots.get(name):
            slot.calibration = calibration
            await self.engine.set_openings(slot.lora_id, slot.openings)
            for other in list(self.slots.values()) if name == BASE else [slot]:
                await self._sense(other)

    async def activate(self, name: str, path: Path | None, calibration: Calibration | None) -> bool:
        """Make `name` the adapter of every new response: load, switch, let the old one leave when it is free.

        False where `room` versions are in the engine and none has drained yet: one without a slot of its own would make
        requests wait, and one in vLLM's last slot would do worse (see ROOM). Ask again.
        """
        started = perf_counter()
        async with self._turn:
            if name == self.live:
                return True
            async with self._lock:
                if not await self._loaded(name, path, calibration):
                    return False
                old, self.live = self.slots[self.live], name
            self.swapped(name, perf_counter() - started)
            await self._depart(old)
            return True

    async def hold(self, name: str, path: Path, calibration: Calibration | None) -> bool:
        """Keep `name` in the engine though it is not live; False where there is no room yet."""
        async with self._turn, self._lock:
            if not await self._loaded(name, path, calibration):
                return False
            self.held |= {name}
            return True

    async def let_go(self, names: Collection[str]) -> None:
        """Hold these no longer: each leaves when nobody uses it."""
        self.held -= frozenset(names)
        for name in names:
            if slot := self.slots.get(name):
                await self._depart(slot)

    async def _loaded(self, name: str, path: Path | None, calibration: Calibration | None) -> bool:
        """Whether `name` is in the engine, loaded now if it was not and there is room."""
        if name in self.slots:
            return True
        if len(self.slots) - 1 >= self.room:
            return False
        number = int(name.removeprefix("v"))
        request = LoRARequest(f"{VERSION}{number}", FIRST_ID + number, str(path))
        await self.engine.load_adapter(request)
        slot = Slot(name, request, calibration)
        await self.engine.set_openings(slot.lora_id, slot.openings)
        await self._sense(slot)
        self.slots[name] = slot
        return True

    async def _sense(self, slot: Slot) -> None:
        """Have the workers read by the slot's own harm sense, or by the base's: an adapter is a small change of the model,
        and its requests are those that the base's sense was fitted on."""
        own, base = slot.calibration, self.slots[BASE].calibration
        slot.sense = (own.sense or (base and base.sense)) if own else None
        slot.unread = await self.engine.set_sense(slot.lora_id, slot.sense)

    def _stays(self, name: str) -> bool:
        return name in (BASE, self.live) or name in self.held

    async def _depart(self, slot: Slot) -> None:
        async with self._lock:
            await self._leave(slot)

    async def _leave(self, slot: Slot) -> None:
        """Remove a version from the engine, unless it stays, was leased again meanwhile, or is gone already."""
        if slot.leases or self._stays(slot.name) or self.slots.get(slot.name) is not slot:
            return
        del self.slots[slot.name]
        await self.engine.unload_adapter(slot.lora_id)
