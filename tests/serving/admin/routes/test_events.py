"""Stored events by the API."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

import models
from online.settings.groups import GuardSettings
from serving.lifecycle.service import Service
from tests.online.operations.installed import contested
from tests.serving.admin.routes.conftest import asking
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def store(service: Service) -> float:
    """Three events a second apart, the last the newest; returns the first one's time."""
    first = time.time() - 60
    events = [replace(contested(at), time=first + at, verdict=name) for at, name in enumerate(("plain", "risky", "risky"))]
    with service.installation.buffer() as buffer:
        buffer.append(events)
    return first


def test_the_newest_come_first_and_can_be_narrowed(service: Service, client: TestClient) -> None:
    first = store(service)

    def times(**asked: object) -> list[float]:
        return [round(one["time"] - first) for one in client.get("events", params=asked).json()["events"]]

    assert times() == [2, 1, 0]
    assert times(verdict="plain") == [0] and times(verdict=["plain", "risky"], limit=2) == [2, 1]
    assert times(since=first + 1.5) == [2]
    assert client.get("events", params={"limit": 0}).status_code == 422


def test_texts_are_for_those_who_operate_and_tokens_for_nobody(tmp_path: Path) -> None:
    keys = GuardSettings(read_key=SecretStr("r" * 16), operate_key=SecretStr("o" * 16))
    with offline(tmp_path, models.bundled(), keys) as service:
        store(service)
        client = asking(service)
        for key, texts in (("r", set()), ("o", {"prompt", "response"})):
            (one, *_) = client.get("events", headers={"authorization": f"Bearer {key * 16}"}).json()["events"]
            hidden = {"entropies", "prompt_tokens", "response_tokens", "prompt", "response"}
            assert hidden & one.keys() == texts and one["entropy_mean"] == 1.0
        assert client.get("events").status_code == 401


def test_a_database_that_cannot_be_opened_is_503(service: Service, client: TestClient) -> None:
    assert service.buffer.close()
    for file in service.state.path.glob("buffer.sqlite*"):
        file.unlink()
    (service.state.path / "buffer.sqlite").mkdir()
    assert client.get("events").status_code == 503
