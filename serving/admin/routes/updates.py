"""Updates: which there were, how the present one does, and starting one."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.responses import HTMLResponse

from online.state.locks import Busy
from online.updates import progress
from serving.admin.routes.common import OPERATE, READ, Served, fails, guarded_router, registered
from serving.lifecycle.service import Service

router = guarded_router()


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
