"""The probe in the engines of docs/explanation/engines.md that have no test elsewhere; what needs a GPU is marked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

import models
from guard.calibration import Calibration
from models.recipe import store, train
from online.model.fingerprint import fingerprint
from tests.conftest import running
from tests.serving.test_exact import all_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]
FLAGS = "--served-model-name sirl-tiny --dtype float32 --enforce-eager --max-model-len 2048 --max-num-seqs 64".split()
NGRAM = json.dumps({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1})


@pytest.fixture(scope="module")
def divisible(tmp_path_factory) -> Path:
    """A model of random weights whose heads can be shared out (the bundled one has three), calibrated as the bundled one."""
    folder = tmp_path_factory.mktemp("divisible") / "model"
    tokenizer = AutoTokenizer.from_pretrained(models.bundled())
    config = train.config(tokenizer)
    config.hidden_size, config.num_attention_heads, config.num_key_value_heads = 128, 2, 2
    torch.manual_seed(0)
    store.save(Qwen3ForCausalLM(config).to(torch.bfloat16), tokenizer, folder)
    shipped = Calibration.load(models.bundled() / "calibration.json")
    dataclasses.replace(shipped, model=fingerprint(folder)).save(folder / "calibration.json")
    return folder


@pytest.mark.interop
def test_two_workers_share_the_model(tmp_path, divisible):
    """Tensor parallel: every worker has the whole logits, and one of them answers."""
    one_machine = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # vLLM's own binding wants a NUMA node for each
    with running(tmp_path / "state", *FLAGS, "--tensor-parallel-size", "2", model=str(divisible), env=one_machine) as server:
        assert all_of(server, ("regex",), divisible) > 300


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("speculation", [[], ["--speculative-config", NGRAM]], ids=["plain", "ngram"])
@pytest.mark.parametrize("scheduling", ["--no-async-scheduling", "--async-scheduling"])
@pytest.mark.parametrize("runner", ["0", "1"], ids=["v1", "v2"])
def test_on_a_gpu(tmp_path, runner, scheduling, speculation):
    """Both model runners; float32 matrix products on a GPU round more than a CPU's."""
    if speculation and scheduling == "--async-scheduling" and runner == "0":
        pytest.skip("vLLM's V1 runner has no n-gram speculation under async scheduling")
    folder, env = models.bundled(), {"VLLM_USE_V2_MODEL_RUNNER": runner}
    left_out = ("bias", "logprobs") if speculation else ()
    with running(tmp_path / "state", *FLAGS, scheduling, *speculation, model=str(folder), env=env) as server:
        facts = server.get("/guard/v1/status").json()["engine"]
        assert (".gpu.model_runner" in facts["runner"]) is (runner == "1")
        assert all_of(server, left_out, tolerance=2e-3) > 300
