"""The events that the buffer holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Query

from serving.admin.access import Role
from serving.admin.routes.common import READ, Served, carried_out, fails, guarded_router

router = guarded_router()


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
        with service.installation.buffer() as buffer:
            found = buffer.events(verdicts=verdict, since=since, limit=limit)
        texts = ("prompt", "response") if role < Role.OPERATE else ()
        hidden = ("entropies", "prompt_tokens", "response_tokens", *texts)
        return [{k: v for k, v in asdict(event).items() if k not in hidden} for event in found]

    return {"events": await carried_out(read)}
