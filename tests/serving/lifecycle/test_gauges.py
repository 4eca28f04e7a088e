"""The gauges of what goes on in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import models
from online.admission.review import summarise
from online.operations import queue
from online.state.directory import StateDir
from online.updates.progress import STAGES
from online.updates.record import UpdateOutcome, UpdateRecord
from serving.lifecycle.service import Service
from tests.online.events.traffic import until
from tests.online.operations.installed import contested
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def count(service: Service, status: str) -> float:
    """Finished updates that ended so, as they are exported."""
    return service.metrics.updates.labels(status)._value.get()


def test_an_update_is_counted_once_however_often_one_looks(service: Service) -> None:
    for counted in (1, 2):
        record = UpdateRecord.new(service.state.updates)
        service.gauges.measure()
        assert count(service, "refused") == counted - 1
        record.finish(UpdateOutcome(record.id, "refused", (), None, 1.0))
        for _ in range(2):
            service.gauges.measure()
            assert count(service, "refused") == counted


def test_progress_shows_while_one_runs(service: Service) -> None:
    record = UpdateRecord.new(service.state.updates)
    record.progress("learning", 6, 12)
    service.gauges.measure()
    assert service.metrics.update_progress._value.get() == pytest.approx(sum(STAGES["learning"]) / 2)
    record.finish(UpdateOutcome(record.id, "rejected", (), None, 1.0))
    service.gauges.measure()
    assert service.metrics.update_progress._value.get() == 0


def test_what_waits_is_counted_for_the_model_that_serves(service: Service) -> None:
    with service.installation.buffer() as buffer:
        buffer.append([contested(number) for number in range(3)])
    asyncio.run(service.gauges.count_contested())
    assert service.metrics.contested_waiting._value.get() == 3
    summarise(service.state, queue.look(service.installation))
    service.gauges.measure()
    assert sum(child._value.get() for child in service.metrics.queue._metrics.values()) == 3


def test_a_buffer_that_is_away_is_a_problem_until_it_is_back(tmp_path: Path) -> None:
    in_the_way = StateDir(tmp_path / "state").path / "buffer.sqlite"
    in_the_way.mkdir()
    with offline(tmp_path, models.bundled()) as service:
        assert service.buffer.offer(contested(1))
        until(lambda: service.buffer.failing, 60)
        service.gauges.measure()
        assert "cannot be written" in service.problems["buffer"] and service.metrics.buffer_failing._value.get() == 1
        in_the_way.rmdir()
        until(lambda: not service.buffer.failing, 60)
        service.gauges.measure()
        assert "buffer" not in service.problems and service.metrics.buffer_failing._value.get() == 0
