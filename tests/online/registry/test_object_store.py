"""The store itself: one that hangs, one that is wrongly named, and what its errors tell."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from online.registry.object_store import ObjectStore, ObjectStoreError
from online.settings.groups import RegistrySettings
from tests.online.registry.shared import Frail, Place, one_sentence


def test_a_store_that_hangs_is_given_up_and_holds_up_no_exit(learner: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(Frail, "find", lambda *_, **__: release.wait())
    store = ObjectStore("frail://sirl", 0.05)
    with pytest.raises(ObjectStoreError, match=r"did not answer within 0\.05 s: see to it, or raise registry\.timeout_s\."):
        store.listing()
    (hanging,) = (thread for thread in threading.enumerate() if thread.name == "sirl-store")
    assert hanging.daemon
    release.set()
    hanging.join()


@pytest.mark.parametrize("url", ["nosuch://bucket", "s3://key:hunter2@bucket/sirl"])
def test_a_url_no_file_system_goes_by_is_one_sentence_at_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ObjectStoreError, match="registry.url begins with") as caught:
        Place(tmp_path, url)
    assert one_sentence(caught.value) and "hunter2" not in str(caught.value)


def test_secrets_of_the_url_are_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "frail://someone:hunter2@host/sirl"

    def fail(self, path, **kwargs):
        raise PermissionError(f"no access to {url} nor to ftp://someone:hunter2@host\nat all")

    monkeypatch.setattr(Frail, "find", fail)
    with pytest.raises(ObjectStoreError) as caught:
        Place(tmp_path, url).sync()
    assert one_sentence(caught.value) and "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(RegistrySettings(url=url))
