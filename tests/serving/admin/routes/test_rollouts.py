"""The learner's own route; tests/serving/engine/test_rollouts.py draws by it."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from serving.lifecycle.service import Service

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_only_whoever_shares_the_state_directory_is_let_in(service: Service, client: TestClient) -> None:
    for headers in ({}, {"x-sirl-internal": "guess"}, {"x-sirl-internal": "ü".encode("latin-1")}):
        assert client.post("rollouts", json={}, headers=headers).status_code == 403
    ours = {"x-sirl-internal": service.state.internal_key()}
    assert client.post("rollouts", json={"nonsense": 1}, headers=ours).status_code == 422


def test_it_is_no_part_of_the_description(client: TestClient) -> None:
    paths = client.get("http://127.0.0.1/openapi.json").json()["paths"]
    assert "/guard/v1/status" in paths and not any("rollouts" in path for path in paths)
