"""promptfoo's OpenAI provider: its assertions hold on the endpoint's answers, and it takes a halt for a refusal."""

from __future__ import annotations

import json

import pytest

from tests.interop.tools import npm, run

pytestmark = [pytest.mark.engine, pytest.mark.interop]
OFF = ("DISABLE_TELEMETRY", "DISABLE_UPDATE", "DISABLE_REMOTE_GENERATION", "DISABLE_SHARING")
ASKED = {"What is the capital of France?": "Paris", "Name the opposite of strong.": "weak"}


def test_an_evaluation_reads_answers_and_halts(calibrated, tmp_path):
    """Two providers, one with the guard enforcing: the first passes all, the second is refused all."""
    options = {"apiBaseUrl": f"{calibrated.url}/v1", "apiKey": "none", "temperature": 0, "max_tokens": 60}
    touch = {"passthrough": {"guard": {"mode": "enforce", "threshold": 0}}}
    provider = {"id": "openai:chat:sirl-tiny"}
    config = {
        "prompts": ["{{question}}"],
        "providers": [
            {**provider, "label": "observed", "config": options},
            {**provider, "label": "enforced", "config": {**options, **touch}},
        ],
        "tests": [{"vars": {"question": q}, "assert": [{"type": "contains", "value": a}]} for q, a in ASKED.items()],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = npm("promptfoo")
    env = {f"PROMPTFOO_{name}": "1" for name in OFF} | {"PROMPTFOO_CONFIG_DIR": str(tmp_path / "own")}
    asked = ["eval", "-c", "config.json", "-o", "out.json", "--no-cache", "--no-table", "--no-progress-bar"]
    # 100: some assertion failed, as those on what the guard halts do.
    run(command.with_name("node"), command, *asked, home=tmp_path, env=env, ok=100)
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert results["stats"]["errors"] == 0 and len(results["results"]) == 2 * len(ASKED)
    for result in results["results"]:
        question, response, observed = (
            result["vars"]["question"],
            result["response"],
            result["provider"]["label"] == "observed",
        )
        said = calibrated.chat(question, temperature=0, max_tokens=60)["choices"][0]["message"]["content"]
        assert result["success"] == observed == (response["output"] == said), question
        assert response["finishReason"] == ("stop" if observed else "content_filter")
        assert response["guardrails"]["flagged"] != observed and bool(response.get("isRefusal")) != observed
