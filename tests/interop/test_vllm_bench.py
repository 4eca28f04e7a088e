"""vLLM's own load generator: every request completes, and it finds first tokens and the ones after them in our streams."""

from __future__ import annotations

import json
import sys

import pytest

import models
from tests.interop.tools import HERE, run

pytestmark = [pytest.mark.engine, pytest.mark.interop]
REQUESTS, TOKENS = 24, 16
ENDPOINTS = {"vllm": "/v1/completions", "openai-chat": "/v1/chat/completions"}


@pytest.mark.parametrize("backend", ENDPOINTS)
def test_a_load_is_served_and_timed(calibrated, tmp_path, backend):
    counted = calibrated.metric("sirl_verdicts_total")
    asked = ["--backend", backend, "--base-url", calibrated.url, "--endpoint", ENDPOINTS[backend], "--model", "sirl-tiny"]
    asked += ["--tokenizer", str(models.bundled()), "--dataset-name", "random", "--seed", "1", "--temperature", "0"]
    asked += ["--random-input-len", "24", "--random-output-len", str(TOKENS), "--num-prompts", str(REQUESTS)]
    asked += ["--disable-tqdm", "--save-result", "--save-detailed", "--result-filename", "result.json"]
    run(sys.executable, "-I", HERE / "clients/vllm_bench_client.py", *asked, home=tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["completed"], result["failed"]) == (REQUESTS, 0) and not any(result["errors"])
    assert result["total_output_tokens"] == REQUESTS * TOKENS and all(result["generated_texts"])
    assert all(ttft > 0 for ttft in result["ttfts"]) and result["median_ttft_ms"] > 0
    assert all(len(itls) > 1 for itls in result["itls"]) and result["median_itl_ms"] > 0 and result["median_tpot_ms"] > 0
    assert calibrated.metric("sirl_verdicts_total") >= counted + REQUESTS, "each was watched"
