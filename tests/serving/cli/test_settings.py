"""`sirl settings`."""

from __future__ import annotations

import pytest

from online.settings.reference import reference
from serving.cli.main import main


def test_it_prints_the_reference_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert capsys.readouterr().out == reference()
