"""Versions by the API: listed, released, activated, taken back, kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from online.training.ledger import Entry, Ledger
from serving.admin.routes import adapters
from serving.admin.routes.common import ACTOR
from serving.lifecycle.service import Service
from tests.online.registry.adapters import promoted, publish, write_adapter
from tests.serving.admin.routes.conftest import asking
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_versions_are_listed_with_what_became_of_them(service: Service, client: TestClient) -> None:
    registry = service.installation.registry
    publish(registry)
    registry.pin(promoted(registry), actor="test")
    told = client.get("adapters").json()
    assert told["live"] is None
    assert [(one["version"], one["state"], one["decision"], one["pinned"]) for one in told["adapters"]] == [
        ("v1", "candidate", None, False), ("v2", "candidate", "promoted", True),
    ]  # fmt: skip


def test_pins_come_and_go(service: Service, client: TestClient) -> None:
    for _ in range(2):
        publish(service.installation.registry)
    assert client.post("adapters/v1/pin").json() == {"pinned": ["v1"]}
    assert client.post("adapters/2/pin").json() == {"pinned": ["v1", "v2"]}
    assert client.post("adapters/v1/unpin").json() == {"pinned": ["v2"]}


def test_a_release_goes_on_its_way_and_is_taken_back(service: Service, client: TestClient) -> None:
    promoted(service.installation.registry)
    first, second = client.post("adapters/v1/release").json(), client.post("adapters/v1/release").json()
    assert first["version"] == "v1" and first["stage"] not in (None, second["stage"])
    assert client.post("release/withdraw").json() == {"release": None}
    assert service.installation.registry.releasing() is None
    lines = [json.loads(line) for line in service.state.audit_path.read_text().splitlines()]
    assert {line["actor"] for line in lines if line["event"] == "adapter.withdrawn"} == {ACTOR}


def test_what_no_gate_promoted_is_refused_and_the_base_can_always_serve(service: Service, client: TestClient) -> None:
    publish(service.installation.registry)
    assert client.post("adapters/v1/activate").status_code == 409
    assert client.post("adapters/v1/release").status_code == 409
    assert client.post("rollback").status_code == 409
    assert client.post("adapters/base/activate").json() == {"live": None}


def test_an_engine_that_does_not_take_it_up_is_a_504_and_one_that_cannot_a_502(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service here has no engine, so nothing carries out what live.json says."""
    monkeypatch.setattr(adapters, "SWITCH_TIMEOUT_S", 0.05)
    promoted(service.installation.registry)
    assert client.post("adapters/v1/activate").status_code == 504
    service.problems["adapters"] = "Its weights are gone."
    monkeypatch.setattr(service.installation.registry, "activate", lambda *_, **__: None)
    service.failed_on = service.installation.registry.watch_stamp()
    answer = client.post("adapters/v1/activate")
    assert answer.status_code == 502 and answer.json()["detail"] == "Its weights are gone."


def test_a_ledger_is_told_without_texts(service: Service, client: TestClient) -> None:
    registry, entry = service.installation.registry, Entry("id", 1.0, "c" * 32, "p" * 32, "high")
    with registry.stage() as staged:
        Ledger(2.0, (entry,)).save(write_adapter(staged))
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    publish(registry)
    assert client.get("adapters/v1/ledger").json() == Ledger(2.0, (entry,)).to_dict()
    assert client.get("adapters/v2/ledger").status_code == client.get("adapters/v3/ledger").status_code == 404


@pytest.mark.parametrize("name", ["base", "v1;rm", "v" + "9" * 400, "newest"])
def test_what_names_no_version_is_404(client: TestClient, name: str) -> None:
    for act in ("pin", "unpin", "release"):
        assert client.post(f"adapters/{name}/{act}").status_code == 404
    assert client.get(f"adapters/{name}/ledger").status_code == 404


def test_a_model_without_a_folder_has_none(tmp_path: Path) -> None:
    with offline(tmp_path) as service:
        client = asking(service)
        assert client.get("adapters").status_code == client.post("adapters/v1/pin").status_code == 409
        assert "no local folder" in client.post("rollback").json()["detail"]
