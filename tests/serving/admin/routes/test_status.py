"""The status of an endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

import models
from online.model.fingerprint import fingerprint
from online.registry.release_record import Release
from serving.lifecycle.service import Service
from tests.online.registry.adapters import promoted
from tests.serving.admin.routes.conftest import asking
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_it_says_what_serves_and_every_problem(service: Service, client: TestClient) -> None:
    service.problems.note("adapters", "Something is amiss.")
    told = client.get("status").json()
    assert told["fingerprint"] == fingerprint(models.bundled()) and told["engine"] == {"runner": "none"}
    assert told["adapter"] == "base" and told["loaded"] == {"base": 0} and told["release"] is None
    assert told["learner"] == {"supervised": False, "running": False, "updating": False}
    assert not told["calibrated"] and told["problems"]["adapters"] == "Something is amiss."


def test_a_version_on_its_way_shows_with_what_was_compared(service: Service, client: TestClient) -> None:
    assert service.releases is not None
    version = promoted(service.installation.registry)
    service.releases.follow(Release(version, "shadow", 0.25))
    release = client.get("status").json()["release"]
    assert (release["version"], release["stage"], release["share"]) == ("v1", "shadow", 0.25)
    assert release["compared"] == {"serving": 0, "new": 0}


def test_a_model_without_a_folder_has_one_too(tmp_path: Path) -> None:
    with offline(tmp_path) as service:
        told = asking(service).get("status").json()
    assert told["model"] == "model" and told["fingerprint"] is None and told["release"] is None
