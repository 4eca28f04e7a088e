"""Teaching a version once more; tests/online/updates/test_forget.py compares the weights."""

from __future__ import annotations

import pytest

from online.operations.installation import Installation
from online.operations.repetition import repeat
from online.registry.errors import RegistryError
from online.training.ledger import LedgerError
from tests.online.registry.adapters import publish


def test_what_cannot_be_taught_again_is_said(here: Installation) -> None:
    with pytest.raises(RegistryError, match="no adapter v1"):
        repeat(here, 1)
    with pytest.raises(LedgerError, match="v1 has no ledger"):
        repeat(here, publish(here.registry))
