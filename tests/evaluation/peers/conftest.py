"""Fixtures that the tests of this folder share."""

from __future__ import annotations

import pytest

from online.model.local_model import LocalModel
from tests.online.tiny_model import tiny_llm


@pytest.fixture(scope="module")
def llm() -> LocalModel:
    return tiny_llm()
