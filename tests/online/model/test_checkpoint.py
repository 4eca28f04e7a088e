"""A model's configuration is read in one way, and what cannot be read is one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import models
from online.model.checkpoint import CheckpointError, configuration
from online.model.conditions import declared_quantization
from online.model.learnable import unlearnable
from online.model.precision import model_type
from serving.model_check import check

READERS: dict[str, Callable[[Path], object]] = {
    "configuration": configuration,
    "declared_quantization": declared_quantization,
    "unlearnable": lambda folder: unlearnable(folder, 100),
    "model_type": model_type,
    "check": check,
}
DAMAGE = {
    "cut off": (b'{"model_type": ', r"cannot be read \(.+\): fetch the model again\."),
    "no text": (b'"\xff"', r"cannot be read \(.+\): fetch the model again\."),
    "no object": (b"[]", r"cannot be read \(it is no JSON object\): fetch the model again\."),
    "nothing": (None, r"has no config\.json, so it is not a model: give a Hugging Face model folder\."),
}


def test_a_configuration_is_what_the_folder_says(tmp_path: Path) -> None:
    said = {"model_type": "größer", "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(said, ensure_ascii=False), "utf-8")
    assert configuration(tmp_path)["model_type"] == model_type(tmp_path) == "größer"
    assert declared_quantization(tmp_path) == "fp8"
    assert configuration(models.bundled()) == json.loads((models.bundled() / "config.json").read_text("utf-8"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_one_that_cannot_be_read_is_the_same_sentence_for_every_reader(tmp_path: Path, damage: str, reader: str) -> None:
    content, sentence = DAMAGE[damage]
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        READERS[reader](tmp_path)
    assert str(tmp_path) in str(caught.value) and re.search(sentence + "$", str(caught.value))


def test_a_folder_under_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is not a model"):
        configuration(tmp_path / "file")
