"""The status of an endpoint."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import Request

from serving.admin.routes.common import READ, Served, guarded_router
from serving.lifecycle.service import Service

router = guarded_router()


@router.get("/status", dependencies=READ)
async def status(service: Served, request: Request) -> dict:
    """What serves, from which state, and every problem known, in sentences."""
    live = service.adapters.slots[service.adapters.live]
    return {
        "model": str(service.installation.model),
        "fingerprint": service.installation.fingerprint,
        "engine": request.app.state.engine_facts,
        "adapter": service.adapters.live,
        "release": released(service),
        "loaded": {name: slot.leases for name, slot in service.adapters.slots.items()},
        "calibrated": live.calibration is not None,
        "calibration": None if live.calibration is None else live.calibration.created,
        "reservations": service.calibrations.reservations,
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


def released(service: Service) -> dict | None:
    """The version on its way to serve, its stage, and what was compared there."""
    if service.releases is None or (release := service.releases.release) is None:
        return None
    serving, new = service.releases.comparison.compared
    return {**asdict(release), "version": f"v{release.version}", "compared": {"serving": serving, "new": new}}
