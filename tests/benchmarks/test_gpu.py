"""What runs on a GPU runs on a CPU by the same ways, in small; a cell that fails leaves a sentence and ends nothing."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.gpu.clock import called, copy_bandwidth
from benchmarks.gpu.learner import estimate
from benchmarks.gpu.results import Results
from docs.gpu import page
from online.settings.groups import UpdateSettings
from tests.docs.sentences import sentences, words

ROOT = Path(__file__).parents[2]
LONGEST = 25
"""Words in a sentence of a page."""


@pytest.mark.slow
def test_a_dry_run_finds_every_cell_and_the_learner_equals_itself(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [str(ROOT / "scripts/gpu-check"), "--dry-run", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    cells = found["cells"]
    assert found["machine"]["device"] == "cpu" and not [name for name, cell in cells.items() if "failed" in cell]
    assert {"bandwidth", "parity, passes", "parity, steps", "learner, tiny, prompts of 16"} < cells.keys()
    assert max(cell["max_error"] for name, cell in cells.items() if name.startswith("probe, ")) < 2e-6
    assert cells["parity, passes"]["responses_equal"] == 1 and cells["parity, steps"]["twice_the_same_bits"]
    learner = cells["learner, tiny, prompts of 16"]
    assert learner["finite"] and learner["step_s"] > 0 and set(learner["rollouts_s"]) == {"4"}
    assert "blocked" in cells["engine, V1 and V2 runners"]
    made = page(found)
    assert "tiny, prompts of 16" in made and "## What failed" not in made
    assert not [one for one in sentences(made) if words(one) > LONGEST]


def test_a_cell_that_fails_or_lasts_leaves_a_sentence_and_the_next_one_runs(tmp_path: Path) -> None:
    def breaks() -> dict[str, object]:
        raise ValueError("no such thing\nand more")

    def lasts() -> dict[str, object]:
        time.sleep(30)
        return {}

    results = Results(tmp_path / "r.json", "cpu", seconds=60)
    results.keep("breaks", breaks, limit=10)
    results.keep("lasts", lasts, limit=0.05)
    kept = json.loads((tmp_path / "r.json").read_text())["cells"]
    assert kept["breaks"]["failed"] == "ValueError: no such thing" and kept["lasts"]["failed"].startswith("TimeoutError: ")
    results.keep("works", lambda: {"figure": 1}, limit=10)
    assert json.loads((tmp_path / "r.json").read_text())["cells"]["works"]["figure"] == 1
    results.ends = time.monotonic()
    results.keep("late", breaks, limit=10)
    assert "not run" in results.found["cells"]["late"]["failed"]


def test_each_call_has_its_number_and_a_copy_its_bandwidth() -> None:
    seen: list[int] = []
    assert called(seen.append, "cpu", 4) >= 0 and seen == [0, 1, 2, 0, 1, 2, 3]
    assert copy_bandwidth("cpu", 1 << 16) > 0


def test_the_estimate_is_its_arithmetic() -> None:
    found = {"masses_per_second": 10.0, "answers_per_second": 20.0, "step_s": 4.0}
    made = estimate(found, UpdateSettings(steps=30, screened_per_step=80))
    assert made["update_minutes"] == pytest.approx((240 + 120 + 2 * 1800 * (0.1 + 0.1)) / 60)
    assert made["arithmetic"]["selection"] == "2400 masses at 10.00/s = 240 s"
    assert made["arithmetic"]["steps"] == "30 x 4.00 s = 120 s"
