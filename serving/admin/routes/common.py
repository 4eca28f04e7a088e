"""What the routes share: whose service they speak to, who may call them, and how they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel

from guard.errors import SirlError
from online.events.buffer import BufferError
from online.operations.installation import Installation
from serving.admin.access import Role, needs
from serving.lifecycle.service import Service

ACTOR = "admin-api"
"""Who acts, in the audit log."""
T = TypeVar("T")


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


Served = Annotated[Service, Depends(get_service)]
READ, OPERATE = [Depends(needs(Role.READ))], [Depends(needs(Role.OPERATE))]


def guarded_router() -> APIRouter:
    """A router whose every route asks for a role."""
    return APIRouter(prefix="/guard/v1", tags=["guard"], responses=fails(401, 403, 429))


async def carried_out(work: Callable[[], T]) -> T:
    """What an operation returns, off the event loop; 503 where the buffer cannot be used, 409 where it is refused."""
    try:
        return await asyncio.to_thread(work)
    except BufferError as error:
        raise HTTPException(503, str(error)) from None
    except SirlError as error:
        raise HTTPException(409, str(error)) from None


def registered(service: Service) -> Installation:
    """The installation of a model that has adapters; 409 for one that cannot have any."""
    try:
        _ = service.installation.registry
    except SirlError as error:
        raise HTTPException(409, str(error)) from None
    return service.installation
