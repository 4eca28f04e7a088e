"""What is exported when versions come and go: one live adapter, and no more series for many of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
ADAPTER, STAGE = "sirl_active_adapter_info", "sirl_release_stage"
PROCESS = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from serving.metrics import Metrics
metrics = Metrics()
for name in {names}:
    metrics.live(name)
metrics.release({stage!r})
metrics.learner_up.set({up})
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def samples(text: str, *names: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith(names)}


def process(folder: Path, names: tuple[str, ...], stage: str | None, up: int) -> str:
    """What a server's process exports under PROMETHEUS_MULTIPROC_DIR after these versions were live in turn."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    script = PROCESS.format(names=names, stage=stage, up=up)
    return subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)


def test_one_adapter_is_exported():
    metrics = Metrics(registry := CollectorRegistry())
    for name in ("v1", "v2"):
        metrics.live(name)
    assert registry.get_sample_value(ADAPTER, {"adapter": "v2"}) == 1
    assert registry.get_sample_value(ADAPTER, {"adapter": "v1"}) is None


def test_one_adapter_is_live_among_the_files_of_a_multiprocess_directory(tmp_path: Path):
    said = samples(process(tmp_path, ("v1", "v2"), "canary", 1), ADAPTER, STAGE, "sirl_learner_up")
    assert f'{ADAPTER}{{adapter="v2"}} 1.0' in said
    assert {f'{ADAPTER}{{adapter="{name}"}} 0.0' for name in ("base", "v1")} <= said
    assert {line for line in said if line.endswith(" 1.0")} == {
        f'{ADAPTER}{{adapter="v2"}} 1.0',
        f'{STAGE}{{stage="canary"}} 1.0',
        "sirl_learner_up 1.0",
    }


def test_a_process_that_is_gone_is_not_added_to_the_one_that_runs(tmp_path: Path):
    process(tmp_path, ("v1",), "shadow", 1)
    said = samples(process(tmp_path, ("v1",), None, 0), ADAPTER, STAGE, "sirl_learner_up")
    assert {line for line in said if line.endswith(" 1.0")} == {f'{ADAPTER}{{adapter="v1"}} 1.0'}, said
