"""Calibrating, from labelled prompts to the file that serves; tests/online/calibration/ tests what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

import models
from evaluation import load_suite
from guard.calibration import Calibration
from guard.errors import SirlError
from online.operations.calibration import calibrate
from online.operations.installation import Installation
from online.settings.load import load
from tests.online.tiny_model import save_tiny


def test_a_suite_calibrates_the_base_and_is_stored_where_the_server_looks(here: Installation, tmp_path: Path) -> None:
    lines = models.suite("calibration").read_text().splitlines(keepends=True)
    chosen = {kind: [line for line in lines if f'"{kind}"' in line][:12] for kind in ("harmful", "benign")}
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(chosen["harmful"] + chosen["benign"]))
    done = calibrate(here, "base", suite)
    assert (done.adapter, done.prompts) == ("base", len(load_suite(suite)))
    assert Calibration.load(here.state.find_calibration("base", here.model)) == done.calibration
    assert done.calibration.model == here.fingerprint and done.calibration.openings.sequences


def test_without_prompts_or_a_version_it_is_not_begun(here: Installation, tmp_path: Path) -> None:
    with pytest.raises(SirlError, match="names no adapter"):
        calibrate(here, "newest")
    settings = load(env={"SIRL_STATE_DIR": str(tmp_path / "other")})
    with pytest.raises(SirlError, match="give labelled prompts with --suite FILE"):
        calibrate(Installation.of(settings, save_tiny(tmp_path / "model")), "base")
