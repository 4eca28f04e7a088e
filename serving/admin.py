"""Administration under /guard/v1/: what is going on, which adapter serves, start an update."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from time import time
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from online import OnlineError, progress
from online.buffer import BufferError
from online.ledger import Ledger
from online.queue import Fate, Queue
from online.release import advance
from online.review import ReviewError, redact_prompts, review, told
from online.state import Busy
from serving.access import Role, allow, needs
from serving.engine.rollouts import Asked
from serving.engine.version import EngineError
from serving.service import Service

T = TypeVar("T")
SWITCH_TIMEOUT_S = 30.0
NUMBER = re.compile(r"v?[0-9]{1,9}")
"""A version; a longer number would be no file's name."""


def get_service(request: Request) -> Service:
    return request.app.state.sirl


class Problem(BaseModel):
    """What is wrong, in a sentence, and the HTTP status."""

    message: str
    type: str
    param: str | None
    code: int


class Failure(BaseModel):
    """The body of every answer that is no success: vLLM's handlers make it of our exceptions."""

    error: Problem


def fails(*statuses: int) -> dict[int | str, dict]:
    """The statuses a route may fail with, for its description in /openapi.json."""
    return {status: {"model": Failure} for status in statuses}


def ours(service: Annotated[Service, Depends(get_service)], request: Request) -> None:
    """Our own processes only: they share the state directory, and so the key."""
    if not hmac.compare_digest(request.headers.get("x-sirl-internal", "").encode(), service.state.internal_key().encode()):
        raise HTTPException(403, "This route is the learner's own: its key is internal.key in the state directory.")


Served = Annotated[Service, Depends(get_service)]
internal = APIRouter(prefix="/guard/v1", dependencies=[Depends(ours)], include_in_schema=False)
READ, OPERATE = [Depends(needs(Role.READ))], [Depends(needs(Role.OPERATE))]
router = APIRouter(prefix="/guard/v1", tags=["guard"], responses=fails(401, 403, 429))


@router.get("/status", dependencies=READ)
async def status(service: Served) -> dict:
    """What serves, from which state, and every problem known, in sentences."""
    live = service.adapters.slots[service.adapters.live]
    return {
        "model": str(service.model),
        "fingerprint": service.fingerprint,
        "engine": service.engine_facts,
        "adapter": service.adapters.live,
        "release": released(service),
        "loaded": {name: slot.leases for name, slot in service.adapters.slots.items()},
        "calibrated": live.calibration is not None,
        "calibration": None if live.calibration is None else live.calibration.created,
        "reservations": service.reservations,
        "modules": service.modules,
        "buffer": {
            "events": service.buffer.size,
            "pending": service.buffer.pending,
            "shed": service.buffer.shed,
            "refused": service.buffer.refused,
            "failing": service.buffer.failing,
        },
        "learner": {
            "supervised": service.learner.supervise,
            "running": service.learner.running,
            "updating": service.learner.updating,
        },
        "problems": service.problems,
    }


@router.get("/events", responses=fails(400, 503))
async def events(
    service: Served,
    role: Annotated[Role, READ[0]],
    verdict: Annotated[list[str] | None, Query()] = None,
    since: float | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict:
    """The newest stored events, without their per-token entropies; for the role read without their texts."""

    def read() -> list[dict]:
        with closing(service.open_buffer()) as buffer:
            found = buffer.events(verdicts=verdict, since=since, limit=limit)
        texts = ("prompt", "response") if role < Role.OPERATE else ()
        hidden = ("entropies", "prompt_tokens", "response_tokens", *texts)
        return [{k: v for k, v in asdict(event).items() if k not in hidden} for event in found]

    return {"events": await asyncio.to_thread(buffered, read)}


@router.get("/queue", responses=fails(400, 409, 503))
async def queue(
    service: Served,
    role: Annotated[Role, READ[0]],
    fate: Annotated[list[Fate] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict:
    """The distinct prompts that the next update would find and what becomes of each, the newest first; for the role read
    without their texts."""
    identity = registered(service).base

    def read() -> Queue:
        with closing(service.open_buffer()) as buffer:
            return Queue.of(buffer, identity, time(), service.settings, service.state.client_salt())

    if service.looking.locked():
        raise HTTPException(429, "The queue is being looked through for somebody else: ask again in a moment.")
    async with service.looking:
        found = await asyncio.to_thread(buffered, read)
    shown = [one for one in found.prompts if fate is None or one.fate in fate][:limit]
    return {
        "counts": found.counts(),
        "excluded_clients": list(found.excluded),
        "prompts": [told(one, text=role >= Role.OPERATE) for one in shown],
    }


@router.post("/queue/{kind}/{name}/{act}", dependencies=OPERATE, responses=fails(400, 404, 409, 503))
async def decide(
    service: Served, kind: Literal["prompts", "clients"], name: str, act: Literal["approve", "exclude", "reset", "redact"]
) -> dict:
    """Decide about a queued prompt or about a client, by the hash that the queue shows: approve (it is learned from whatever
    quota or quarantine say), exclude, reset (take that back) or, for a prompt, redact what is stored of it."""
    registry = registered(service)

    def do() -> int | None:
        with closing(service.open_buffer()) as buffer:
            if act != "redact":
                review(service.state, buffer, kind.removesuffix("s"), [name], act, "admin-api")
                return None
            if kind == "clients":
                raise ReviewError("what is redacted is a prompt: use `sirl forget` for a client.")
            return redact_prompts(service.state, buffer, registry.base, [name], service.redaction, "admin-api")

    try:
        redacted = await asyncio.to_thread(buffered, do)
    except ReviewError as error:
        raise HTTPException(404, str(error)) from None
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None
    return {"done": act} if redacted is None else {"done": act, "events": redacted}


def buffered(work: Callable[[], T]) -> T:
    """What `work` returns; 503 where the buffer cannot be used."""
    try:
        return work()
    except BufferError as error:
        raise HTTPException(503, str(error)) from None


@router.get("/adapters", dependencies=READ, responses=fails(409))
async def adapters(service: Served) -> dict:
    """Every version in the registry and its state; `live` is null while the base model serves alone."""
    registry = registered(service)
    listed = [
        {
            "version": adapter.name,
            "state": adapter.state,
            "created": adapter.manifest.get("created"),
            "parent": adapter.manifest.get("parent"),
            "origin": adapter.manifest.get("origin"),
            "decision": adapter.decision,
            "pinned": adapter.pinned,
        }
        for adapter in registry.versions()
    ]
    live = service.adapters.live
    return {"adapters": listed, "live": None if live == "base" else live}


@router.post("/adapters/{version}/activate", dependencies=OPERATE, responses=fails(400, 404, 409, 502, 504))
async def activate(service: Served, request: Request, version: str, force: bool = False) -> dict:
    """Make a registered version ("v3", "3") or "base" live at once; answers when new responses get it. `force`, for one that
    its gate did not promote, takes the role approve, and so does any where gate.approval is set."""
    if force or service.settings.gate.approval:
        await asyncio.to_thread(allow, request, Role.APPROVE)
    registry = registered(service)
    if version != "base" and not NUMBER.fullmatch(version):
        raise HTTPException(404, f"{version} names no adapter: use a version such as v3, or base.")
    number = None if version == "base" else int(version.removeprefix("v"))
    try:
        await asyncio.to_thread(registry.activate, number, actor="admin-api", reason="asked for", force=force)
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None
    return await switched(service)


@router.post("/adapters/{version}/pin", dependencies=OPERATE, responses=fails(404, 409))
async def pin(service: Served, version: str) -> dict:
    """Keep a version ("v3", "3") that can be served, whatever is live; answers with all that are pinned."""
    return await pinned(service, version, registered(service).pin)


@router.post("/adapters/{version}/unpin", dependencies=OPERATE, responses=fails(404, 409))
async def unpin(service: Served, version: str) -> dict:
    """Let a pinned version go; answers with all that still are."""
    return await pinned(service, version, registered(service).unpin)


async def pinned(service: Service, version: str, act: Callable[..., None]) -> dict:
    number = numbered(version)
    try:
        await asyncio.to_thread(act, number, actor="admin-api")
        return {"pinned": [f"v{number}" for number in registered(service).pins()]}
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None


@router.post("/adapters/{version}/release", dependencies=OPERATE, responses=fails(404, 409))
async def release(service: Served, request: Request, version: str) -> dict:
    """Put a version that passed its gate on its way to serve, or from the stage it is in to the next; `stage` is null where
    it serves now."""
    if service.settings.gate.approval:
        await asyncio.to_thread(allow, request, Role.APPROVE)
    registry = registered(service)
    move = partial(advance, registry, service.settings.release, numbered(version))
    try:
        stage = await asyncio.to_thread(move, actor="admin-api", reason="asked for")
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None
    return {"version": version, "stage": stage}


@router.get("/adapters/{version}/ledger", dependencies=READ, responses=fails(404, 409))
async def ledger(service: Served, version: str) -> dict:
    """The events that taught a version ("v3", "3"), without their text."""
    registry, number = registered(service), numbered(version)
    try:
        found = await asyncio.to_thread(Ledger.load, registry.path(number))
    except OnlineError as error:
        raise HTTPException(404, str(error)) from None
    return found.to_dict()


@internal.post("/rollouts")
async def rollouts(service: Served, asked: Asked) -> dict:
    """Responses of an adapter in training, for the learner beside us."""
    try:
        return await service.rollouts.draw(asked)
    except (OnlineError, EngineError) as error:
        raise HTTPException(409, str(error)) from None


@router.post("/rollback", dependencies=OPERATE, responses=fails(409, 502, 504))
async def rollback(service: Served) -> dict:
    """Make the last version live again that was live before, was promoted by its gate and not taken back; else the base."""
    try:
        await asyncio.to_thread(registered(service).rollback, actor="admin-api", reason="asked for")
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None
    return await switched(service)


@router.post("/release/withdraw", dependencies=OPERATE, responses=fails(409))
async def withdraw(service: Served) -> dict:
    """Take back the version on its way to serve."""
    try:
        await asyncio.to_thread(registered(service).release, None, actor="admin-api", reason="asked for")
    except OnlineError as error:
        raise HTTPException(409, str(error)) from None
    return {"release": None}


@router.get("/updates", dependencies=READ)
async def updates(service: Served) -> dict:
    """Every update known, the newest last."""
    return {"updates": [update(service, folder.name) for folder in progress.folders(service.state)]}


@router.post("/updates", dependencies=OPERATE, status_code=202, responses=fails(409))
async def start(service: Served) -> dict:
    """Start one update in the background."""
    registered(service)
    try:
        with service.state.lock("update"):
            started = service.learner.update()
    except Busy:
        started = False
    if not started:
        raise HTTPException(409, "An update is running: wait for it to end.")
    return {"started": True}


@router.get("/updates/{name}", dependencies=READ, responses=fails(404))
async def one(service: Served, name: str) -> dict:
    """One update: its progress, and its outcome when it has one."""
    if name not in (folder.name for folder in progress.folders(service.state)):
        raise HTTPException(404, f"There is no update {name}: /guard/v1/updates lists them.")
    return update(service, name)


@router.get("/updates/{name}/report", dependencies=READ, response_class=HTMLResponse, responses=fails(404))
async def report(service: Served, name: str) -> HTMLResponse:
    """What an update did, as a page."""
    if (await one(service, name))["outcome"] is None:
        raise HTTPException(404, f"Update {name} has not ended, and so has no report yet.")
    page = service.state.updates / name / "report.html"
    if not page.exists():
        raise HTTPException(404, f"Update {name} left no report.")
    return HTMLResponse(page.read_text("utf-8"))


def update(service: Service, name: str) -> dict:
    folder = service.state.updates / name
    outcome = progress.read(folder, "outcome.json")
    return {
        "id": name,
        "state": "running" if outcome is None else "finished",
        "progress": progress.read(folder, "progress.json"),
        "outcome": outcome,
    }


def released(service: Service) -> dict | None:
    """The version on its way to serve, its stage, and what was compared there."""
    if service.releases is None or (release := service.releases.release) is None:
        return None
    serving, new = service.releases.comparison.compared
    return {**asdict(release), "version": f"v{release.version}", "compared": {"serving": serving, "new": new}}


def numbered(version: str) -> int:
    """The number in "v3" or "3"; 404 for anything else."""
    if not NUMBER.fullmatch(version):
        raise HTTPException(404, f"{version} names no adapter: use a version such as v3.")
    return int(version.removeprefix("v"))


def registered(service: Service):
    if service.registry is None:
        raise HTTPException(409, "This model has no local folder to fingerprint, so it has no adapters: serve a folder.")
    return service.registry


async def switched(service: Service) -> dict:
    """Wait until the engine serves what the registry says; 502 with the reason when it could not."""
    registry = registered(service)
    wanted = registry.live()
    name = "base" if wanted is None else f"v{wanted}"
    deadline = asyncio.get_running_loop().time() + SWITCH_TIMEOUT_S
    while service.adapters.live != name:
        if service.failed_on == registry.watch_stamp():
            raise HTTPException(502, service.problems.get("adapters", f"{name} could not be loaded: see the server's log."))
        if asyncio.get_running_loop().time() > deadline:
            raise HTTPException(504, f"{name} was not live within {SWITCH_TIMEOUT_S:.0f} s: see the server's log.")
        await asyncio.sleep(0.02)
    return {"live": None if name == "base" else name}
