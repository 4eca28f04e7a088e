"""Updates by the API."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from online.updates.record import UpdateOutcome, UpdateRecord
from serving.lifecycle.service import Service

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_one_is_told_from_its_beginning_to_its_report(service: Service, client: TestClient) -> None:
    record = UpdateRecord.new(service.state.updates)
    record.progress("learning", 3, 12)
    told = client.get(f"updates/{record.id}").json()
    assert (told["state"], told["progress"]["stage"], told["outcome"]) == ("running", "learning", None)
    assert client.get(f"updates/{record.id}/report").status_code == 404, "it has not ended"
    record.finish(UpdateOutcome(record.id, "refused", ("There is no gap.",), None, 1.0))
    assert client.get("updates").json()["updates"] == [client.get(f"updates/{record.id}").json()]
    assert client.get(f"updates/{record.id}").json()["outcome"]["reasons"] == ["There is no gap."]
    assert client.get(f"updates/{record.id}/report").status_code == 404, "it left none"
    (record.folder / "report.html").write_text("<p>There is no gap.</p>")
    report = client.get(f"updates/{record.id}/report")
    assert report.headers["content-type"].startswith("text/html") and report.text == "<p>There is no gap.</p>"


@pytest.mark.parametrize("name", ["nothing", "..", "..%2f..%2fregistry", "%2e%2e"])
def test_no_other_name_finds_a_file(service: Service, client: TestClient, name: str) -> None:
    UpdateRecord.new(service.state.updates)
    for path in (f"updates/{name}/report", f"updates/x{name}"):
        assert client.get(path).status_code == 404


def test_one_is_not_promised_while_another_runs(service: Service, client: TestClient) -> None:
    with service.state.lock("update"):
        answer = client.post("updates")
    assert answer.status_code == 409 and "An update is running" in answer.json()["detail"]
    assert not service.learner.updating
