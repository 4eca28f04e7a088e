"""A service brought to what the state directory says; the tests with an engine are test_release.py and test_swap.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import models
from guard.policy import Mode
from online.settings.groups import GuardSettings
from serving.lifecycle.service import Service
from tests.online.registry.adapters import promoted
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_what_cannot_be_loaded_is_said_once_and_what_served_goes_on(service: Service) -> None:
    registry = service.installation.registry
    registry.activate(promoted(registry), actor="test", reason="trial")
    (registry.path(1) / "adapter_config.json").unlink()
    for _ in range(2):  # the second look waits its time
        asyncio.run(service.reconcile())
        assert "v1 lacks a file" in service.problems["adapters"] and "base stays live" in service.problems["adapters"]
    assert service.metrics.swap_failures._value.get() == 1 and service.failed_on == registry.watch_stamp()
    registry.activate(None, actor="test", reason="mend")
    asyncio.run(service.reconcile())
    assert service.failed_on is None and "adapters" not in service.problems and service.adapters.live == "base"


def test_a_pinned_version_that_is_damaged_is_a_problem_of_its_own(service: Service) -> None:
    registry = service.installation.registry
    registry.pin(promoted(registry), actor="test")
    (registry.path(1) / "adapter_config.json").unlink()
    asyncio.run(service.reconcile())
    assert "It is not offered to clients." in service.problems["pins"] and "adapters" not in service.problems
    assert service.offers().listed == ("model@base",)


def test_modules_that_would_be_guarded_are_refused_where_it_is_enforced(tmp_path: Path) -> None:
    for mode, exempt, said in ((Mode.OBSERVE, (), False), (Mode.ENFORCE, ("own",), False), (Mode.ENFORCE, (), True)):
        guard = GuardSettings(mode=mode.value, exempt_modules=exempt)
        with offline(tmp_path, models.bundled(), guard, modules=("own",)) as service:
            assert service.modules == {"own": "exempt" if exempt else "uncalibrated"}
            assert ("modules" in service.problems) == said


def test_a_loop_that_ends_is_said(service: Service) -> None:
    async def broken() -> None:
        raise ValueError("a defect")

    async def run() -> None:
        task = asyncio.create_task(broken())
        task.add_done_callback(service.stopped)
        await asyncio.wait([task])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert "restart the server" in service.problems["service"] and "a defect" in service.problems["service"]
