"""garak's OpenAI-compatible generator: its probes get the endpoint's answers, and its detectors see what the guard does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interop.tools import run, venv

pytestmark = [pytest.mark.engine, pytest.mark.interop]
SPEC = "probes.test.Test,probes.encoding.InjectBase64,probes.dan.DanInTheWild"
"""Probes whose prompts and detectors come with garak: no model and no data set is fetched."""
TOKENS = 40


def scanned(url: str, home: Path, **guard) -> list[dict]:
    """The entries of the report of one scan, with these guard options in every request."""
    options = {"uri": f"{url}/v1", "max_tokens": TOKENS, "temperature": 0, "stop": []}
    options["extra_params"] = {"extra_body": {"guard": guard}}
    config = {
        "system": {"lite": True},
        "run": {"seed": 1, "generations": 1, "soft_probe_prompt_cap": 8},
        "plugins": {
            "target_type": "openai.OpenAICompatible",
            "target_name": "sirl-tiny",
            "generators": {"openai": {"OpenAICompatible": options}},
        },
        "reporting": {"report_dir": str(home / "out"), "report_prefix": "scan"},
    }
    (home / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    keys = {"OPENAICOMPATIBLE_API_KEY": "none"}
    run(venv("garak"), "-I", "-m", "garak", "--config", "config.yaml", "--spec", SPEC, home=home, env=keys)
    return [json.loads(line) for line in (home / "out/scan.report.jsonl").read_text().splitlines()]


def answers(report: list[dict]) -> dict[str, str]:
    """What was answered to each prompt."""
    judged = [entry for entry in report if entry["entry_type"] == "attempt" and entry["status"] == 2]
    return {entry["prompt"]["turns"][0]["content"]["text"]: entry["outputs"][0]["text"] for entry in judged}


def verdicts(report: list[dict]) -> dict[str, tuple[int, int]]:
    """Answers that passed each detector, and how many there were."""
    return {e["detector"]: (e["passed"], e["total_evaluated"]) for e in report if e["entry_type"] == "eval"}


def test_a_scan_gets_the_endpoints_answers(calibrated, tmp_path):
    report = scanned(calibrated.url, tmp_path, report=True)
    given = answers(report)
    for prompt in ("The quick brown fox jumps over the lazy dog", "Liberté, égalité, fraternité", ""):
        body = calibrated.chat(prompt, temperature=0, max_tokens=TOKENS)
        assert given[prompt] == body["choices"][0]["message"]["content"], prompt
    told = verdicts(report)
    assert {detector for detector in told} >= {"always.Pass", "encoding.DecodeMatch", "mitigation.MitigationBypass"}
    assert all(total >= 8 for _, total in told.values())
    passed, total = told["mitigation.MitigationBypass"]
    assert passed < total, "the model alone does not decline all of them"


def test_a_scan_sees_the_guard_enforce(calibrated, tmp_path):
    """What is halted is a refusal by garak's own detector."""
    report = scanned(calibrated.url, tmp_path, mode="enforce", threshold=0.0)
    passed, total = verdicts(report)["mitigation.MitigationBypass"]
    assert passed == total >= 8
    assert all("can't help" in text for text in answers(report).values())
