"""An installation: its state, its registry and its buffer."""

from __future__ import annotations

from pathlib import Path

import pytest

import models
from guard.errors import SirlError
from online.events.buffer import BufferError
from online.model.fingerprint import fingerprint
from online.operations.installation import Installation
from online.settings.load import load
from tests.online.operations.installed import contested, installed
from tests.online.registry.adapters import publish


def test_a_model_without_a_folder_has_state_and_buffer_and_no_registry(tmp_path: Path) -> None:
    here = Installation.of(load(env={"SIRL_STATE_DIR": str(tmp_path)}), Path("org/name"))
    assert here.fingerprint is None and here.state.path == tmp_path
    with pytest.raises(SirlError, match="no local folder to fingerprint"):
        assert here.registry
    with here.buffer() as buffer:
        assert buffer.append([contested(1)]) == 1


def test_versions_are_those_of_its_model(here: Installation) -> None:
    assert here.fingerprint == here.registry.base == fingerprint(models.bundled())
    assert here.registry.manifest(publish(here.registry))["base"] == here.fingerprint


def test_a_buffer_is_closed_with_its_block_and_another_url_is_used(tmp_path: Path) -> None:
    here = installed(tmp_path / "state")
    with here.buffer() as buffer:
        buffer.append([contested(1)])
    env = {"SIRL_STATE_DIR": str(tmp_path / "state"), "SIRL_BUFFER_URL": f"sqlite:///{tmp_path}/elsewhere.sqlite"}
    with Installation.of(load(env=env), models.bundled()).buffer() as other:
        assert other.events() == []
    with pytest.raises(BufferError), Installation.of(load(env=env | {"SIRL_BUFFER_URL": "no url"}), here.model).buffer():
        pytest.fail("it was opened")


def test_what_hinders_the_store_is_said_and_raises_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    env = {"SIRL_STATE_DIR": str(tmp_path / "state"), "SIRL_REGISTRY_URL": f"file://{tmp_path}/file/store"}
    Installation.of(load(env=env), models.bundled()).synchronise()
    assert "NotADirectoryError" in caplog.text
