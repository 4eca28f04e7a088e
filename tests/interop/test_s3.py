"""A store at a real S3 endpoint (moto's server), through s3fs: shared, cut off, and back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from online.registry.object_store import ObjectStoreError
from tests.conftest import free_port
from tests.interop.tools import venv
from tests.online.registry import test_sync
from tests.online.registry.shared import Place

pytestmark = pytest.mark.interop
BUCKET = "adapters"


@contextmanager
def moto(port: int) -> Iterator[None]:
    """moto's S3 at a port, with an empty bucket, until the block ends."""
    command = [venv("moto").parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.put(f"http://127.0.0.1:{port}/{BUCKET}", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "moto did not come up"
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> int:
    """s3fs of its own environment can be imported, and looks for S3 at the port."""
    (site,) = (venv("s3fs").parents[1] / "lib").glob("python*/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    port = free_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setitem(os.environ, name, value)
    return port


def test_installations_share_versions_over_s3(s3: int, tmp_path: Path) -> None:
    with moto(s3):
        test_sync.test_what_the_learner_publishes_servers_serve(tmp_path, f"s3://{BUCKET}/registry")


def test_s3_that_goes_away_is_a_sentence_and_what_serves_goes_on(s3: int, tmp_path: Path) -> None:
    learner, server = (Place(tmp_path / name, f"s3://{BUCKET}/registry", timeout_s=10) for name in ("learner", "server"))
    with moto(s3):
        learner.publish()
        learner.activate(1)
        learner.sync()
        server.sync()
    learner.publish()
    for place in (learner, server):
        with pytest.raises(ObjectStoreError) as said:
            place.sync()
        assert "The store" in str(said.value) and "secret-of-the-store" not in str(said.value)
        place.sound()
    assert server.registry.live() == 1
    with moto(s3):  # empty: what is missing there is sent again
        for place in (learner, server, learner):
            place.sync()
        assert server.told() == learner.told() and [a.version for a in server.registry.versions()] == [1, 2]
