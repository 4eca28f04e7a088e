"""`sirl doctor`: what is sound is said to be, what is not is named with its mend, for people and as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import models
from guard.calibration import Calibration
from online.settings.settings import Settings
from serving.doctor import sound
from tests.online.events.test_migrations import EARLIER, made
from tests.serving.engine.test_residual_stream import calibrate, sense_of


def doctor(state: Path, *words: str) -> tuple[int, dict[str, dict]]:
    """Exit status and findings by subject."""
    command = [sys.executable, "-m", "serving", "doctor", *words, "--json", "--state-dir", str(state)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    return run.returncode, {finding["subject"]: finding for finding in json.loads(run.stdout)}


@pytest.mark.engine
@pytest.mark.nightly
def test_a_sound_installation_and_an_exact_probe(tmp_path):
    """The whole examination: the engine's self-test holds its entropies, and a harm sense, against a forward pass."""
    calibrate(tmp_path / "state" / "registry" / "base" / "calibration.json", sense_of(models.bundled(), (1, 4)))
    status, found = doctor(tmp_path / "state")
    assert status == 0 and not [f for f in found.values() if f["level"] == "error"]
    assert found["probe"]["level"] == "ok" and "exact to" in found["probe"]["message"]
    assert found["harm sense"]["level"] == "ok" and "exact to" in found["harm sense"]["message"]
    assert found["calibration of base"]["level"] == found["model"]["level"] == found["engine"]["level"] == "ok"


def test_an_unsound_model_is_a_finding(tmp_path):
    model = shutil.copytree(models.bundled(), tmp_path / "model", ignore=shutil.ignore_patterns("suites"))
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-10])
    status, found = doctor(tmp_path / "state", str(model), "--fast")
    assert status == 1 and found["model"]["level"] == "error" and "fetch the model again" in found["model"]["message"]


def test_a_stale_calibration_and_a_corrupt_buffer_are_findings(tmp_path):
    state = tmp_path / "state"
    (state / "registry" / "base").mkdir(parents=True)
    stale = json.loads((models.bundled() / "calibration.json").read_text()) | {"model": "sha256:other"}
    (state / "registry" / "base" / "calibration.json").write_text(json.dumps(stale))
    (state / "buffer.sqlite").write_bytes(b"no database" * 100)
    status, found = doctor(state, "--fast")
    assert status == 1 and found["buffer"]["level"] == "error" and "corrupt" in found["buffer"]["message"]
    assert found["calibration of base"]["level"] == "warning" and "sirl calibrate" in found["calibration of base"]["message"]


def test_a_buffer_of_another_schema_and_a_live_json_of_a_newer_format_are_findings(tmp_path):
    def found() -> dict[str, tuple[str, str]]:
        return {f.subject: (f.level, f.message) for f in sound(Settings(state_dir=tmp_path), models.bundled())}

    path = made(tmp_path / "buffer.sqlite", EARLIER["3, the first"])
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "live.json").write_text('{"format": 7}')
    before = path.read_bytes()
    level, said = found()["buffer"]
    assert level == "warning" and "has schema 3" in said and "brings it to 4" in said
    assert path.read_bytes() == before, "to look is not to migrate"
    level, said = found()["registry"]
    assert level == "error" and "was written by a newer sirl-guard (format 7; this one reads up to 1)" in said
    path.unlink()
    made(path, EARLIER["3, the first"] + "update meta set value = '7' where key = 'schema';")
    level, said = found()["buffer"]
    assert level == "error" and "was written by a newer sirl-guard (it has schema 7; this one reads up to 4)" in said


def test_a_calibration_of_another_dtype_judge_or_suite_is_a_finding(tmp_path):
    state = tmp_path / "state"

    def base(*words: str) -> tuple[str, str]:
        found = doctor(state, "--fast", *words)[1]["calibration of base"]
        return found["level"], found["message"]

    level, said = base("--dtype", "bfloat16")
    assert level == "warning" and "was made in float32 and bfloat16 is served" in said and "run `sirl calibrate`" in said
    shipped = Calibration.load(models.bundled() / "calibration.json")
    own = state / "registry" / "base" / "calibration.json"
    replace(shipped, judge="grammar").save(own)
    assert base()[0] == "ok"
    level, said = base("--update-judge", "rules")
    assert level == "warning" and "was made with the judge grammar, and rules is chosen: run `sirl calibrate`" in said
    replace(shipped, suite="sha256:another").save(own)
    level, said = base()
    assert level == "warning" and "was made with other labelled prompts" in said


def test_a_calibration_for_another_template_and_a_model_without_one_are_findings(tmp_path):
    state, template = tmp_path / "state", "{{ messages[0].content }}"
    status, found = doctor(state, "--fast", "--chat-template", template)
    base = found["calibration of base"]
    assert status == 0 and base["level"] == "warning" and "was made for another chat template" in base["message"]
    status, found = doctor(state, "--fast")
    assert found["calibration of base"]["level"] == "ok" and "float32" in found["calibration of base"]["message"]
    model = shutil.copytree(models.bundled(), tmp_path / "model", ignore=shutil.ignore_patterns("suites"))
    (model / "chat_template.jinja").unlink()
    status, found = doctor(state, str(model), "--fast")
    assert status == 0 and found["chat template"]["level"] == "warning"
    assert "--chat-template FILE" in found["chat template"]["message"]
