"""lm-eval's local-completions on tasks of our own: it generates what the endpoint says, and measures its likelihoods."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

import models
from evaluation.endpoint import Endpoint
from evaluation.lm_eval_harness import HarnessError, lm_eval
from tests.conftest import running
from tests.interop.tools import run, venv
from tests.serving import reference

pytestmark = [pytest.mark.engine, pytest.mark.interop]
QUESTIONS = [prompt for prompt in map(json.loads, models.suite("test").read_text().splitlines()) if prompt["answer"]][:24]
"""Prompts of the test suite that have one right answer."""


def evaluated(url: str, task: dict, documents: list[dict], home: Path) -> tuple[dict, list[dict]]:
    """lm-eval's results for one task, and its samples in the order of the documents."""
    (home / "documents.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    files = {"test": str(home / "documents.jsonl")}
    common = {"task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    (home / "tasks").mkdir()
    (home / "tasks/own.yaml").write_text(yaml.safe_dump({**common, **task}))
    model = {"model": "sirl-tiny", "base_url": f"{url}/v1/completions", "tokenizer": models.bundled(), "num_concurrent": 4}
    asked = ["--model", "local-completions", "--tasks", "own", "--include_path", "tasks", "--output_path", "out"]
    asked += ["--model_args", ",".join(f"{k}={v}" for k, v in {**model, "tokenizer_backend": "huggingface"}.items())]
    run(venv("lm_eval"), "-I", "-m", "lm_eval", *asked, "--log_samples", home=home)
    (results,), (samples,) = home.glob("out/*/results_*.json"), home.glob("out/*/samples_*.jsonl")
    listed = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"]["own"], sorted(listed, key=lambda sample: sample["doc_id"])


def rendered(question: dict) -> str:
    """A prompt as the chat route puts it to the model: completions get it as it is."""
    return tokenizer().apply_chat_template(question["messages"], tokenize=False, add_generation_prompt=True)


@cache
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models.bundled())


def test_it_generates_what_the_endpoint_says(calibrated, tmp_path):
    """Every other target is what the endpoint itself answers, the rest are not: half of them match."""
    documents = []
    for number, question in enumerate(QUESTIONS):
        body = {"model": "sirl-tiny", "prompt": rendered(question), "temperature": 0, "max_tokens": 40, "stop": ["\n"]}
        text = calibrated.post("/v1/completions", body).json()["choices"][0]["text"]
        documents.append({"prompt": body["prompt"], "said": text, "target": "something else" if number % 2 else text})
    task = {"output_type": "generate_until", "doc_to_text": "{{prompt}}", "doc_to_target": "{{target}}"}
    task |= {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 40, "temperature": 0}}
    results, samples = evaluated(calibrated.url, task | {"metric_list": [{"metric": "exact_match"}]}, documents, tmp_path)
    assert [sample["resps"][0][0] for sample in samples] == [document["said"] for document in documents]
    assert results["exact_match,none"] == 0.5 and len({document["said"] for document in documents}) > 12


def test_it_measures_likelihoods(tmp_path):
    """Prompt logprobs, without LoRA: right answers are likelier than other questions' by what the model itself says."""
    documents = [
        {"prompt": rendered(one), "answers": [one["answer"], other["answer"]]}
        for one, other in zip(QUESTIONS, QUESTIONS[1:] + QUESTIONS[:1], strict=True)
    ]
    task = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{answers}}",
        "doc_to_target": 0,
    }
    task |= {"target_delimiter": "", "metric_list": [{"metric": "acc"}]}
    with running(tmp_path / "state", "--no-enable-lora") as server:
        results, samples = evaluated(server.url, task, documents, tmp_path)
    assert results["acc,none"] > 0.9
    for document, sample in zip(documents, samples, strict=True):
        measured = [float(response[0][0]) for response in sample["resps"]]
        assert measured == pytest.approx([likelihood(document["prompt"], a) for a in document["answers"]], abs=1e-3)


def likelihood(prompt: str, answer: str) -> float:
    """Log-probability of an answer after a prompt, by a forward pass of our own."""
    whole, before = tokenizer().encode(prompt + answer), tokenizer().encode(prompt)
    rows = reference.logits(before, whole[len(before) :])
    return float(sum(row[token] - np.logaddexp.reduce(row) for row, token in zip(rows, whole[len(before) :], strict=True)))


def test_sirl_eval_has_its_tasks_done(calibrated, tmp_path):
    """Every right answer is wanted, and the bundled model knows most."""
    (tmp_path / "documents.jsonl").write_text(
        "".join(json.dumps({"asked": one["messages"][-1]["content"], "target": one["answer"]}) + "\n" for one in QUESTIONS)
    )
    task = {
        "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "documents.jsonl")}},
        "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{asked}}", "doc_to_target": "{{target}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 40, "temperature": 0},
        "metric_list": [{"metric": "exact_match"}],
    }  # fmt: skip
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/own.yaml").write_text(yaml.safe_dump(task))
    target = Endpoint(f"{calibrated.url}/v1", "sirl-tiny", at_once=4)
    found = lm_eval("own", target, tmp_path / "out", venv("lm_eval"), "--include_path", str(tmp_path / "tasks"))
    assert found["own"]["exact_match,none"] > 0.9
    with pytest.raises(HarnessError, match="lm-eval.log says why"):
        lm_eval("no-such-task", target, tmp_path / "bad", venv("lm_eval"))
