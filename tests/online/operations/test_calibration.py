"""Calibrating, from labelled prompts to the file that serves; tests/online/calibration/ tests what is measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import models
from evaluation import load_suite
from guard.calibration import Calibration
from guard.errors import SirlError
from online.calibration.calibrate import HARMFUL_SAMPLES, digest
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
    assert (done.calibration.judge, done.calibration.suite) == ("grammar", digest(load_suite(suite)))
    assert done.calibration.measured_unlike("grammar", done.calibration.suite) is None
    assert done.calibration.measured_unlike("rules", done.calibration.suite) == "the judge grammar, and rules is chosen"
    assert done.calibration.measured_unlike("grammar", "sha256:other") == "other labelled prompts"
    assert replace(done.calibration, judge=None, suite=None).measured_unlike("rules", "sha256:other") is None


def test_rules_read_the_answers_of_a_model_that_is_not_ours(here: Installation, tmp_path: Path) -> None:
    """What answers a harmful prompt is no refusal for that."""
    model = shutil.copytree(
        models.bundled(), tmp_path / "model", ignore=shutil.ignore_patterns("suites", "calibration.json")
    )
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "note": "another model"}))
    rows = [row for row in map(json.loads, models.suite("calibration").read_text().splitlines())]
    chosen = [row for kind in ("harmful", "benign") for row in [row for row in rows if row["kind"] == kind][:30]]
    suite = tmp_path / "suite.jsonl"
    suite.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    made = calibrate(Installation.of(here.settings, model), "base", suite).calibration
    assert made.judge == "rules" and made.figures["refusals"] < HARMFUL_SAMPLES * 30, "some harmful prompts are answered"


def test_without_prompts_or_a_version_it_is_not_begun(here: Installation, tmp_path: Path) -> None:
    with pytest.raises(SirlError, match="names no adapter"):
        calibrate(here, "newest")
    settings = load(env={"SIRL_STATE_DIR": str(tmp_path / "other")})
    with pytest.raises(SirlError, match="give labelled prompts with --suite FILE"):
        calibrate(Installation.of(settings, save_tiny(tmp_path / "model")), "base")
