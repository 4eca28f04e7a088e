"""The queue: what the next update may learn from, and decisions about it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import HTTPException, Query

from online.admission.queued import Fate
from online.admission.review import ReviewError, described
from online.operations import queue as operations
from serving.admin.access import Role
from serving.admin.routes.common import ACTOR, OPERATE, READ, Served, carried_out, fails, guarded_router, registered

router = guarded_router()


@router.get("/queue", responses=fails(400, 409, 503))
async def queue(
    service: Served,
    role: Annotated[Role, READ[0]],
    fate: Annotated[list[Fate] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> dict:
    """The distinct prompts that the next update would find and what becomes of each, the newest first; for the role read
    without their texts."""
    installation = registered(service)
    if service.looking.locked():
        raise HTTPException(429, "The queue is being looked through for somebody else: ask again in a moment.")
    async with service.looking:
        found = await carried_out(partial(operations.look, installation))
    shown = [one for one in found.prompts if fate is None or one.fate in fate][:limit]
    return {
        "counts": found.counts(),
        "excluded_clients": list(found.excluded),
        "prompts": [described(one, text=role >= Role.OPERATE) for one in shown],
    }


@router.post("/queue/{kind}/{name}/{act}", dependencies=OPERATE, responses=fails(400, 404, 409, 503))
async def decide(
    service: Served, kind: Literal["prompts", "clients"], name: str, act: Literal["approve", "exclude", "reset", "redact"]
) -> dict:
    """Decide about a queued prompt or about a client, by the hash that the queue shows: approve (it is learned from whatever
    quota or quarantine say), exclude, reset (take that back) or, for a prompt, redact what is stored of it."""
    installation = registered(service)
    if act == "redact" and kind == "clients":
        raise HTTPException(404, "what is redacted is a prompt: use `sirl forget` for a client.")

    def do() -> int | None | ReviewError:
        try:
            if act == "redact":
                redaction = service.preparation.redaction
                return operations.redact(installation, [name], actor=ACTOR, redaction=redaction)
            operations.decide(installation, kind.removesuffix("s"), [name], act, actor=ACTOR)
            return None
        except ReviewError as error:  # what is decided about is not there
            return error

    done = await carried_out(do)
    if isinstance(done, ReviewError):
        raise HTTPException(404, str(done))
    return {"done": act} if done is None else {"done": act, "events": done}
