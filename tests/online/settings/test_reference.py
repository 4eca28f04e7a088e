"""The page of all settings."""

from __future__ import annotations

from online.settings.key import keys
from online.settings.reference import reference
from tests.online.settings.given import GROUPS


def test_reference_names_every_setting_with_a_sentence() -> None:
    page = reference()
    for key in keys():
        assert f"`{key.env}`" in page and f"`{key.flag}`" in page
        assert key.info.description and key.info.description.endswith("."), key.path
    assert {key.group for key in keys()} == set(GROUPS)
