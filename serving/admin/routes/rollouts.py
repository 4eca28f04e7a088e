"""Rollouts for the learner beside us: internal, and open to our own processes alone."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request

from guard.errors import SirlError
from serving.admin.routes.common import Served, get_service
from serving.engine.rollouts import RolloutRequest
from serving.engine.version import EngineError
from serving.lifecycle.service import Service


def ours(service: Annotated[Service, Depends(get_service)], request: Request) -> None:
    """Our own processes only: they share the state directory, and so the key."""
    if not hmac.compare_digest(request.headers.get("x-sirl-internal", "").encode(), service.state.internal_key().encode()):
        raise HTTPException(403, "This route is the learner's own: its key is internal.key in the state directory.")


router = APIRouter(prefix="/guard/v1", dependencies=[Depends(ours)], include_in_schema=False)


@router.post("/rollouts")
async def rollouts(service: Served, asked: RolloutRequest) -> dict:
    """Responses of an adapter in training, for the learner beside us."""
    try:
        return await service.rollouts.draw(asked)
    except (SirlError, EngineError) as error:
        raise HTTPException(409, str(error)) from None
