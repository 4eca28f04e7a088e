"""What is published is a standard PEFT adapter: plain vLLM says with it what our model says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

import models
from online.model.decoding import generate
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.registry.registry import Registry
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from tests.online.registry.test_signature import KEY, pem, private_file
from tests.serving.test_exact import PROMPTS

PLAIN = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
model, adapter, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
lengths = {"max_lora_rank": 16, "max_model_len": 256, "max_num_seqs": 4}
engine = LLM(model, dtype="float32", enforce_eager=True, enable_lora=True, **lengths)
asked, greedy = [{"prompt_token_ids": prompt} for prompt in prompts], SamplingParams(temperature=0, max_tokens=24)
for with_adapter in (None, LoRARequest("published", 1, adapter)):
    said = engine.generate(asked, greedy, lora_request=with_adapter, use_tqdm=False)
    print(json.dumps([list(answer.outputs[0].token_ids) for answer in said]), flush=True)
"""
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "HF_HUB_OFFLINE": "1",
}


@pytest.mark.engine
@pytest.mark.nightly
def test_plain_vllm_loads_a_published_adapter_and_says_the_same(tmp_path: Path) -> None:
    llm = LocalModel.load(models.bundled())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in llm.add_adapter("a", LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")):
            parameter += torch.randn(parameter.shape, generator=draw) * 0.1
    keys = RegistrySettings(signing_key=private_file(tmp_path / "key.pem", pem(KEY)))
    registry = Registry(StateDir(tmp_path / "state"), fingerprint(models.bundled()), keys)
    with registry.stage() as staged:
        llm.save_adapter("a", staged)
        folder = registry.path(registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={}))
    registry.attach(1, "evaluation", {"decision": "promoted"})
    prompts = [list(llm.render([{"role": "user", "content": text}])) for text in PROMPTS]
    expected = []
    for adapter in (None, "a"):
        with llm.adapter(adapter):
            samples = generate(llm, prompts, temperature=0, max_tokens=24)
        expected.append([list(sample.tokens) for sample in samples])
    assert expected[0] != expected[1], "the adapter of this test must change what is said"
    command = [sys.executable, "-c", PLAIN, str(models.bundled()), str(folder), json.dumps(prompts)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[[")]
    assert said == expected
