"""The administration of a whole service without an engine, asked from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import models
from serving.app import install
from serving.lifecycle.service import Service
from tests.serving.offline import offline


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Of the bundled model."""
    with offline(tmp_path, models.bundled()) as made:
        yield made


@pytest.fixture
def client(service: Service) -> TestClient:
    return asking(service)


def asking(service: Service) -> TestClient:
    """Whoever asks it from this machine."""
    app = FastAPI()
    install(app, service, {"runner": "none"}, lambda: False, keys=())
    return TestClient(app, base_url="http://127.0.0.1/guard/v1", client=("127.0.0.1", 1))
