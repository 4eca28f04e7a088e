"""`sirl reproduce` as its users run it: the published setting is what comes without asking."""

from __future__ import annotations

import json
from pathlib import Path

import models
from tests.serving.command import sirl


def test_it_trains_the_bundled_model_as_published(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in models.suite("traffic").read_text().splitlines()[:90]]
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": row["messages"][-1]["content"]}) + "\n" for row in rows))
    words = ["reproduce", "--model", str(models.bundled()), "--data", str(data), "--out", str(tmp_path / "out")]
    done = sirl(*words, "--update-steps", "1", "--update-max-tokens", "16")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out/report.json").read_text())
    asked = {"preset": "paper", "tune": "full", "group_size": 4, "learning_rate": 1e-6, "max_tokens": 16}
    assert asked.items() <= told["settings"].items() and told["outcome"]["status"] == "trained"
    assert (tmp_path / "out/model.safetensors").exists() and str(tmp_path / "out/report.html") in done.stdout
    other = sirl(*words, "--update-preset", "anchored")
    assert other.returncode == 1 and "use `sirl update`" in other.stderr
