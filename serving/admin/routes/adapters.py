"""Versions of the adapter: which there are, which serves, which is on its way, which are kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial

from fastapi import HTTPException, Request

from online.operations import versions
from online.state.format import FormatError
from online.training.ledger import LedgerError
from serving.admin.access import Role, allow
from serving.admin.routes.common import ACTOR, OPERATE, READ, Served, carried_out, fails, guarded_router, registered
from serving.lifecycle.service import Service

router = guarded_router()
SWITCH_TIMEOUT_S = 30.0
NUMBER = re.compile(r"v?[0-9]{1,9}")
"""A version; a longer number would be no file's name."""


@router.get("/adapters", dependencies=READ, responses=fails(409))
async def adapters(service: Served) -> dict:
    """Every version in the registry and its state; `live` is null while the base model serves alone."""
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
        for adapter in registered(service).registry.versions()
    ]
    live = service.adapters.live
    return {"adapters": listed, "live": None if live == "base" else live}


@router.post("/adapters/{version}/activate", dependencies=OPERATE, responses=fails(400, 404, 409, 502, 504))
async def activate(service: Served, request: Request, version: str, force: bool = False) -> dict:
    """Make a registered version ("v3", "3") or "base" live at once; answers when new responses get it. `force`, for one that
    its gate did not promote, takes the role approve, and so does any where gate.approval is set."""
    if force or service.settings.gate.approval:
        await asyncio.to_thread(allow, request, Role.APPROVE)
    installation = registered(service)
    if version != "base" and not NUMBER.fullmatch(version):
        raise HTTPException(404, f"{version} names no adapter: use a version such as v3, or base.")
    number = None if version == "base" else int(version.removeprefix("v"))
    await carried_out(partial(versions.activate, installation, number, actor=ACTOR, force=force))
    return await switched(service)


@router.post("/adapters/{version}/pin", dependencies=OPERATE, responses=fails(404, 409))
async def pin(service: Served, version: str) -> dict:
    """Keep a version ("v3", "3") that can be served, whatever is live; answers with all that are pinned."""
    return await pinned(service, version, versions.pin)


@router.post("/adapters/{version}/unpin", dependencies=OPERATE, responses=fails(404, 409))
async def unpin(service: Served, version: str) -> dict:
    """Let a pinned version go; answers with all that still are."""
    return await pinned(service, version, versions.unpin)


async def pinned(service: Service, version: str, act: Callable[..., None]) -> dict:
    installation, number = registered(service), numbered(version)
    await carried_out(partial(act, installation, number, actor=ACTOR))
    return {"pinned": [f"v{pin}" for pin in await carried_out(installation.registry.pins)]}


@router.post("/adapters/{version}/release", dependencies=OPERATE, responses=fails(404, 409))
async def release(service: Served, request: Request, version: str) -> dict:
    """Put a version that passed its gate on its way to serve, or from the stage it is in to the next; `stage` is null where
    it serves now."""
    if service.settings.gate.approval:
        await asyncio.to_thread(allow, request, Role.APPROVE)
    stage = await carried_out(partial(versions.release, registered(service), numbered(version), actor=ACTOR))
    return {"version": version, "stage": stage}


@router.get("/adapters/{version}/ledger", dependencies=READ, responses=fails(404, 409))
async def ledger(service: Served, version: str) -> dict:
    """The events that taught a version ("v3", "3"), without their text."""
    number = numbered(version)
    registered(service)
    try:
        found = await asyncio.to_thread(versions.ledger, service.state, number)
    except (LedgerError, FormatError) as error:
        raise HTTPException(404, str(error)) from None
    return found.to_dict()


@router.post("/rollback", dependencies=OPERATE, responses=fails(409, 502, 504))
async def rollback(service: Served) -> dict:
    """Make the last version live again that was live before, was promoted by its gate and not taken back; else the base."""
    await carried_out(partial(versions.roll_back, registered(service), actor=ACTOR))
    return await switched(service)


@router.post("/release/withdraw", dependencies=OPERATE, responses=fails(409))
async def withdraw(service: Served) -> dict:
    """Take back the version on its way to serve."""
    await carried_out(partial(versions.withdraw, registered(service), actor=ACTOR))
    return {"release": None}


def numbered(version: str) -> int:
    """The number in "v3" or "3"; 404 for anything else."""
    if not NUMBER.fullmatch(version):
        raise HTTPException(404, f"{version} names no adapter: use a version such as v3.")
    return int(version.removeprefix("v"))


async def switched(service: Service) -> dict:
    """Wait until the engine serves what the registry says; 502 with the reason when it could not."""
    registry = registered(service).registry
    wanted = registry.live()
    name = versions.named(wanted)
    deadline = asyncio.get_running_loop().time() + SWITCH_TIMEOUT_S
    while service.adapters.live != name:
        if service.failed_on == registry.watch_stamp():
            raise HTTPException(502, service.problems.get("adapters", f"{name} could not be loaded: see the server's log."))
        if asyncio.get_running_loop().time() > deadline:
            raise HTTPException(504, f"{name} was not live within {SWITCH_TIMEOUT_S:.0f} s: see the server's log.")
        await asyncio.sleep(0.02)
    return {"live": None if wanted is None else name}
