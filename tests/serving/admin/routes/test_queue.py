"""The queue by the API; tests/serving/admin/test_routes.py redacts in it."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from serving.lifecycle.service import Service
from tests.online.operations.installed import contested

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


@pytest.fixture
def waiting(service: Service) -> list[str]:
    """The hashes of the prompts that wait."""
    with service.installation.buffer() as buffer:
        buffer.append([contested(number) for number in range(3)])
    from online.operations import queue

    return [one.prompt for one in queue.look(service.installation).prompts]


def test_a_decision_shows_at_the_next_look(client: TestClient, waiting: list[str]) -> None:
    found = client.get("queue").json()
    assert {one["prompt"] for one in found["prompts"]} == set(waiting) and "text" in found["prompts"][0]
    assert sum(found["counts"].values()) == 3
    for act, fate in (("exclude", "excluded"), ("approve", "approved")):
        assert client.post(f"queue/prompts/{waiting[0]}/{act}").json() == {"done": act}
        only = client.get("queue", params={"fate": fate}).json()["prompts"]
        assert [one["prompt"] for one in only] == waiting[:1]
    assert client.post(f"queue/prompts/{waiting[0]}/reset").json() == {"done": "reset"}
    assert client.get("queue", params={"fate": "approved"}).json()["prompts"] == []
    assert len(client.get("queue", params={"limit": 2}).json()["prompts"]) == 2


def test_a_client_is_excluded_and_cannot_be_approved_or_redacted(client: TestClient, waiting: list[str]) -> None:
    name = "c" * 32
    assert client.post(f"queue/clients/{name}/exclude").json() == {"done": "exclude"}
    found = client.get("queue").json()
    assert found["excluded_clients"] == [name]
    assert client.post(f"queue/clients/{name}/approve").status_code == 404
    assert client.post(f"queue/clients/{name}/redact").status_code == 404


def test_what_is_not_there_is_404_and_what_cannot_be_done_422(client: TestClient, waiting: list[str]) -> None:
    assert client.post("queue/prompts/nonsense/exclude").status_code == 404
    assert client.post(f"queue/prompts/{'0' * 32}/redact").status_code == 404
    assert client.post(f"queue/prompts/{waiting[0]}/burn").status_code == 422
    assert client.get("queue", params={"fate": "lost"}).status_code == 422


def test_one_look_at_a_time(service: Service, client: TestClient, waiting: list[str]) -> None:
    asyncio.run(service.looking.acquire())
    assert client.get("queue").status_code == 429
    service.looking.release()
    assert client.get("queue").status_code == 200
