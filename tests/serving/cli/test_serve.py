"""What vLLM and the learner are handed of what an operator gave `sirl serve`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

import models
from online.model.precision import precision_for
from online.settings.load import load
from serving.cli.serve import engine_arguments, learner_flags, parser
from tests.online.tiny_model import save_tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported


def handed(*words: str, model: Path, environment: dict[str, str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """vLLM's arguments, and the learner's flags."""
    known, rest = parser().parse_known_args(["--state-dir", str(model / "state"), *words])
    args = engine_arguments(str(model), rest, load(known, environment or {}), bundled=False)
    return args, learner_flags(known, args)


def after(words: list[str], flag: str) -> str:
    assert words.count(flag) == 1, words
    return words[words.index(flag) + 1]


def test_a_dtype_is_chosen_said_and_the_learner_s_too(tmp_path: Path, capsys) -> None:
    chosen = precision_for(models.bundled())
    args, learner = handed(model=models.bundled())
    assert args.dtype == after(learner, "--dtype") == chosen.dtype == "float32"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sirl-guard: dtype")]
    assert f"dtype float32, for {chosen.why}" in line


@pytest.mark.parametrize("way", ["flag", "vllm's file"])
def test_a_dtype_that_is_given_is_nobody_else_s_choice(tmp_path: Path, capsys, way: str) -> None:
    model, file = save_tiny(tmp_path), tmp_path / "vllm.yaml"
    file.write_text("dtype: bfloat16\n")
    args, learner = handed(*(("--dtype", "bfloat16") if way == "flag" else ("--config", str(file))), model=model)
    assert args.dtype == after(learner, "--dtype") == "bfloat16"
    assert "sirl-guard: dtype" not in capsys.readouterr().out


@pytest.mark.parametrize("way", ["flag", "vllm's file"])
def test_auto_is_our_choice_wherever_it_is_given(tmp_path: Path, way: str) -> None:
    model, file = save_tiny(tmp_path), tmp_path / "vllm.yaml"
    file.write_text("dtype: auto\n")
    args, learner = handed(*(("--dtype", "auto") if way == "flag" else ("--config", str(file))), model=model)
    assert args.dtype == after(learner, "--dtype") == "float32"


@pytest.mark.parametrize("flag", ["--chat-template-kwargs", "--default-chat-template-kwargs"])
def test_a_template_and_its_arguments_reach_vllm_and_the_learner(tmp_path: Path, flag: str) -> None:
    words = ["--chat-template", "{{ messages }}", flag, '{"enable_thinking": false}']
    args, learner = handed(*words, model=save_tiny(tmp_path))
    assert json.loads(after(learner, "--chat-template-kwargs")) == {"enable_thinking": False}
    assert after(learner, "--chat-template") == "{{ messages }}"
    assert args.default_chat_template_kwargs == {"enable_thinking": False} and args.chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    "words",
    [
        ("--default-chat-template-kwargs", '{"enable_thinking": false}'),
        ('--default_chat_template_kwargs={"enable_thinking": false}',),
        ("--default-chat-template-kwargs.enable_thinking", "false"),
    ],
)
def test_a_flag_of_vllm_s_counts_before_our_environment(tmp_path: Path, words: tuple[str, ...]) -> None:
    ours = {"SIRL_CHAT_TEMPLATE_KWARGS": '{"enable_thinking": true}'}
    args, learner = handed(*words, model=save_tiny(tmp_path), environment=ours)
    expected = {"enable_thinking": False}
    assert args.default_chat_template_kwargs == json.loads(after(learner, "--chat-template-kwargs")) == expected


def test_our_environment_counts_before_vllm_s_file(tmp_path: Path) -> None:
    model, file = save_tiny(tmp_path), tmp_path / "vllm.yaml"
    file.write_text("default-chat-template-kwargs: '{\"enable_thinking\": false}'\n")
    ours = {"SIRL_CHAT_TEMPLATE_KWARGS": '{"enable_thinking": true}'}
    args, _ = handed("--config", str(file), model=model, environment=ours)
    assert args.default_chat_template_kwargs == {"enable_thinking": True}


@pytest.mark.parametrize("way", ["declared", "flag"])
def test_quantised_weights_are_left_to_vllm(tmp_path: Path, way: str) -> None:
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    if way == "declared":
        (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    args, _ = handed(*(("--quantization", "fp8") if way == "flag" else ()), model=tmp_path)
    assert args.dtype == "auto"


def test_a_model_of_a_hub_is_left_to_vllm() -> None:
    assert engine_arguments("someone/model", [], load(argparse.Namespace(), {}), bundled=False).dtype == "auto"
