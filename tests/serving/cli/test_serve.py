"""What vLLM and the learner are handed of what an operator gave `sirl serve`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

import models
from online.model.precision import precision_for
from online.settings.load import load
from serving.cli.serve import learner_flags, parser, vllm_flags
from tests.online.tiny_model import save_tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, when vLLM is imported


def handed(*words: str, model: Path) -> tuple[list[str], list[str]]:
    """The flags that vLLM is given beside the operator's own, and the learner's."""
    from serving.engine import arguments

    known, rest = parser().parse_known_args(["--state-dir", str(model / "state"), *words])
    settings = load(known, {})
    flags = vllm_flags(settings, model, rest)
    args = arguments.parse(str(model), [*rest, *flags], settings, bundled=False)
    return flags, learner_flags(known, args)


def after(words: list[str], flag: str) -> str:
    assert words.count(flag) == 1, words
    return words[words.index(flag) + 1]


def test_a_dtype_is_chosen_said_and_the_learner_s_too(tmp_path: Path, capsys) -> None:
    chosen = precision_for(models.bundled())
    flags, learner = handed(model=models.bundled())
    assert after(flags, "--dtype") == after(learner, "--dtype") == chosen.dtype == "float32"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sirl-guard: dtype")]
    assert f"dtype float32, for {chosen.why}" in line


@pytest.mark.parametrize("way", ["flag", "vllm's file"])
def test_a_dtype_that_is_given_is_nobody_else_s_choice(tmp_path: Path, capsys, way: str) -> None:
    model, file = save_tiny(tmp_path), tmp_path / "vllm.yaml"
    file.write_text("dtype: bfloat16\n")
    _, learner = handed(*(("--dtype", "bfloat16") if way == "flag" else ("--config", str(file))), model=model)
    assert after(learner, "--dtype") == "bfloat16" and "sirl-guard: dtype" not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--chat-template-kwargs", "--default-chat-template-kwargs"])
def test_a_template_and_its_arguments_reach_vllm_and_the_learner(tmp_path: Path, flag: str) -> None:
    from serving.engine import arguments

    words = ["--chat-template", "{{ messages }}", flag, '{"enable_thinking": false}']
    model = save_tiny(tmp_path)
    _, learner = handed(*words, model=model)
    assert json.loads(after(learner, "--chat-template-kwargs")) == {"enable_thinking": False}
    assert after(learner, "--chat-template") == "{{ messages }}"
    known, rest = parser().parse_known_args(words)
    args = arguments.parser().parse_args(["m", *rest, *vllm_flags(load(known, {}), model, rest)])
    assert args.default_chat_template_kwargs == {"enable_thinking": False} and args.chat_template == "{{ messages }}"


def test_quantised_weights_are_left_to_vllm(tmp_path: Path) -> None:
    config = json.loads((save_tiny(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    assert vllm_flags(load(argparse.Namespace(), {}), tmp_path, []) == []
