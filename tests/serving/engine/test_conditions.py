"""A calibration that was made for something else than is served is not used, and what differs is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import models
from guard.calibration import Calibration, Conditions
from tests.conftest import running
from tests.serving.test_killed import children

BASE = "calibration of base"
SHIPPED = Calibration.load(models.bundled() / "calibration.json")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported


@pytest.mark.engine
def test_a_served_template_makes_a_calibration_stale_and_reaches_the_learner(tmp_path: Path):
    template = tmp_path / "other.jinja"
    template.write_text((models.bundled() / "chat_template.jinja").read_text() + "{# another #}")
    flags = ["--chat-template", str(template), "--dtype", "bfloat16", "--default-chat-template-kwargs", '{"tone": "plain"}']
    with running(tmp_path / "state", "--learn", *flags) as server:
        status = server.get("/guard/v1/status").json()
        assert not status["calibrated"] and "another chat template" in status["problems"][BASE]
        (learner,) = server.wait(lambda: children(server, b"learn"))
        words = Path(f"/proc/{learner}/cmdline").read_bytes().split(b"\0")
        assert words[words.index(b"--chat-template") + 1] == str(template).encode()
        assert words[words.index(b"--chat-template-kwargs") + 1] == b'{"tone": "plain"}'
        assert words[words.index(b"--dtype") + 1] == b"bfloat16"
        without = dataclasses.replace(SHIPPED, conditions=Conditions.of(template.read_text(), "float32", None))
        without.save(server.state / "registry" / "base" / "calibration.json")
        server.wait(lambda: "template's arguments none" in server.get("/guard/v1/status").json()["problems"].get(BASE, ""))
        fitting = Conditions.of(template.read_text(), "float32", None, {"tone": "plain"})
        made = dataclasses.replace(SHIPPED, conditions=fitting)
        made.save(server.state / "registry" / "base" / "calibration.json")
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        status = server.get("/guard/v1/status").json()
        assert "float32 and bfloat16" in status["reservations"]["base"]
        assert BASE not in status["problems"]
