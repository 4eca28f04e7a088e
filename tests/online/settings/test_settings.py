from __future__ import annotations

from pathlib import Path

import pytest

from online.settings.load import load
from online.settings.settings import Settings
from tests.online.settings.given import parse


def test_secrets_are_never_printed() -> None:
    settings = load(
        parse("--guard-admin-key", "hunter2hunter2hunter2", "--buffer-url", "postgresql://u:hunter2hunter2hunter2@h/d"), {}
    )
    assert "hunter2hunter2hunter2" not in repr(settings) and "hunter2hunter2hunter2" not in str(settings)
    assert settings.guard.admin_key is not None
    assert settings.guard.admin_key.get_secret_value() == "hunter2hunter2hunter2"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().state_dir = Path("/")
