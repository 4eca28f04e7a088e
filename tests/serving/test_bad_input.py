"""What cannot work is refused in one sentence with cause and mend, and a non-zero exit."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess

import pytest

import models
from online.state.directory import StateDir
from tests.conftest import free_port
from tests.serving.command import sirl


def refused(run: subprocess.CompletedProcess) -> str:
    """The one sentence of a failed command: on standard error, without a traceback."""
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("sirl: ")]
    assert line.endswith((".", "?")), line
    return line


@pytest.fixture
def model(tmp_path):
    """A copy of the bundled model to damage."""
    return shutil.copytree(models.bundled(), tmp_path / "model", ignore=shutil.ignore_patterns("suites"))


def test_a_missing_model(tmp_path):
    assert "no model at" in refused(sirl("serve", str(tmp_path / "nowhere")))


def test_a_file_for_a_model(tmp_path):
    (tmp_path / "model").write_text("x")
    assert "is a file" in refused(sirl("serve", str(tmp_path / "model")))


def test_a_truncated_model(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "fetch the model again" in refused(sirl("serve", str(model)))


def test_a_pickled_model(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "can run code" in refused(sirl("serve", str(model)))


def test_a_corrupt_config(model):
    (model / "config.json").write_text("{")
    assert "config.json" in refused(sirl("serve", str(model)))


def test_a_model_without_tokenizer(model):
    (model / "tokenizer.json").unlink()
    assert "tokenizer" in refused(sirl("serve", str(model)))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--worker-extension-cls", "x.Y"], "--worker-extension-cls"),
        (["--headless"], "--headless"),
        (["--api-server-count", "2"], "--api-server-count"),
        (["--data-parallel-size", "2"], "--data-parallel-size"),
        (["--runner", "pooling"], "--runner"),
        (["--update-steps", "many"], "--update-steps"),
        (["--model", "elsewhere"], "--model"),
        (["--skip-tokenizer-init"], "--skip-tokenizer-init"),
        (["--max-loras", "3"], "--max-loras"),
        (["--max-loras", "5", "--lora-modules", '{"name": "own", "path": "there"}'], "--max-loras"),
        (["--guard-exempt-modules", "own"], "--lora-modules does not"),
        (["--lora-modules", "own=there", "--guard-route-to", "own"], "is not calibrated: name it in guard.exempt_modules"),
        (["--guard-admin-key", ""], "--guard-admin-key"),
        (["--guard-admin-key", "short"], "--guard-admin-key"),
        (["--guard-read-key", "k" * 16, "--guard-operate-key", "k" * 16], "different keys"),
        (["--guard-admin-key", "k" * 16, "--api-key", "k" * 16], "two keys"),
        (["--learn-cron", "every day"], "--learn-cron"),
    ],
)
def test_flags_that_cannot_work_are_refused_by_name(tmp_path, flags, word):
    assert word in refused(sirl("serve", "--state-dir", str(tmp_path / "state"), *flags))


def test_environment_that_cannot_work_is_refused_by_name(tmp_path):
    state = ["--state-dir", str(tmp_path / "state"), "--port", "0"]
    run = sirl("serve", *state, env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in refused(run)
    assert "VLLM_SERVER_DEV_MODE" in refused(sirl("serve", *state, env={"VLLM_SERVER_DEV_MODE": "1"}))
    assert "SIRL_BUFER_URL" in refused(sirl("serve", *state, env={"SIRL_BUFER_URL": "x"}))


def test_suites_and_names_that_cannot_be_used(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "x"}\n')
    state = ["--state-dir", str(tmp_path / "state")]
    assert "kind" in refused(sirl("calibrate", "--suite", str(tmp_path / "bad.jsonl"), *state))
    assert "cannot be read" in refused(sirl("calibrate", "--suite", str(tmp_path / "none.jsonl"), *state))
    assert "names no adapter" in refused(sirl("calibrate", "--adapter", "foo", *state))
    assert "cannot be read" in refused(sirl("update", "--update-suite", str(tmp_path), *state))
    (tmp_path / "families.jsonl").write_text('{"family": "x"}\n')
    assert "template" in refused(sirl("demo", "--families", str(tmp_path / "families.jsonl")))


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in refused(sirl("serve", "--port", port, "--state-dir", str(tmp_path / "state")))


def test_a_state_directory_that_another_server_has(tmp_path):
    state = ["--state-dir", str(tmp_path / "state")]
    with StateDir(tmp_path / "state").served("http://127.0.0.1:8000"):
        said = refused(sirl("serve", *state, "--port", str(free_port())))
        assert f"process {os.getpid()} at http://127.0.0.1:8000" in said and "another --state-dir" in said
        assert sirl("adapters", "list", *state).returncode == 0, "commands beside a server go on"


def test_a_state_directory_that_is_a_file(tmp_path):
    (tmp_path / "state").write_text("x")
    assert "state" in refused(sirl("serve", "--state-dir", str(tmp_path / "state"), "--port", "0"))
    assert "state" in refused(sirl("adapters", "list", "--state-dir", str(tmp_path / "state")))


def test_unknown_keys_of_the_settings_file(tmp_path):
    file = tmp_path / "sirl.toml"
    file.write_text("[buffer]\nplain_rat = 0.5\n")
    assert "plain_rate" in refused(sirl("update", "--config", str(file), "--state-dir", str(tmp_path / "state")))


def test_a_bad_buffer_url_hides_its_password(tmp_path):
    run = sirl("update", "--state-dir", str(tmp_path / "state"), "--buffer-url", "postgres-ish://me:secret@nowhere/x")
    assert "secret" not in refused(run)


def test_a_corrupt_buffer(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "buffer.sqlite").write_bytes(b"not a database, not at all, far from it" * 50)
    refused(sirl("update", "--state-dir", str(state)))


def test_a_model_without_a_chat_template(tmp_path, model):
    state = ["--state-dir", str(tmp_path / "state")]
    (model / "chat_template.jinja").unlink()
    suite = ["--suite", str(models.suite("calibration"))]
    said = refused(sirl("calibrate", str(model), *suite, *state))
    assert "has no chat template: give one with --chat-template FILE" in said
    said = refused(sirl("calibrate", str(model), *suite, *state, "--chat-template", str(tmp_path / "none.jinja")))
    assert "none.jinja cannot be read" in said
    run = sirl("update", str(model), *state)
    assert run.returncode == 1 and "has no chat template" in run.stdout and "Traceback" not in run.stderr


def test_importing_what_is_no_adapter(tmp_path):
    state = ["--state-dir", str(tmp_path / "state")]
    assert "adapter_config.json" in refused(sirl("adapters", "import", str(tmp_path), *state))
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert "code" in refused(sirl("adapters", "import", str(folder), *state))


def test_an_update_without_traffic_is_refused_with_the_reason(tmp_path):
    run = sirl("update", "--state-dir", str(tmp_path / "state"))
    assert run.returncode == 1 and "refused" in run.stdout and "buffer" in run.stdout.lower()


def test_a_model_without_a_suite_is_not_learned_on(tmp_path, model):
    """Nobody could tell whether learning made it safer."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "note": "another model"}))
    run = sirl("update", str(model), "--state-dir", str(tmp_path / "state"))
    assert run.returncode == 1 and "suite" in run.stdout
