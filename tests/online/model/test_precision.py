"""The dtype that is fast and exact, by checkpoint and machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import models
from online.model.precision import OVERFLOWING, SMALL, Machine, Precision, precision_for, stored_in
from tests.online.tiny_model import tiny_model

SLOW, FAST = Machine(gpu=False, bf16=False), Machine(gpu=False, bf16=True)
OLD, NEW = Machine(gpu=True, bf16=False), Machine(gpu=True, bf16=True)


def saved(folder: Path, dtype: torch.dtype) -> Path:
    tiny_model().to(dtype).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("stored", "machine", "chosen"),
    [
        ("float32", SLOW, "float32"),
        ("float32", FAST, "float32"),
        ("float32", NEW, "bfloat16"),
        ("float32", OLD, "float16"),
        ("bfloat16", SLOW, "float32"),
        ("bfloat16", FAST, "bfloat16"),
        ("bfloat16", NEW, "bfloat16"),
        ("bfloat16", OLD, "float16"),
        ("float16", FAST, "float32"),
        ("float16", NEW, "float16"),
    ],
)
def test_the_dtype_fits_checkpoint_and_machine(
    tmp_path: Path, monkeypatch, stored: str, machine: Machine, chosen: str
) -> None:
    monkeypatch.setattr("online.model.precision.stored_in", lambda folder: (stored, SMALL + 1))
    (tmp_path / "config.json").write_text("{}")
    found = precision_for(tmp_path, machine=lambda: machine)
    assert found.dtype == chosen and found.torch == getattr(torch, chosen) and found.why


@pytest.mark.parametrize("kind", ["gemma2", "gemma3", "gemma3_text", "glm4"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_what_float16_overflows_in_is_not_computed_in_it(tmp_path: Path, monkeypatch, kind: str, stored: str) -> None:
    monkeypatch.setattr("online.model.precision.stored_in", lambda folder: (stored, SMALL + 1))
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    assert precision_for(tmp_path, machine=lambda: NEW).dtype == "bfloat16"
    assert precision_for(tmp_path, machine=lambda: OLD).dtype == "float32"


def test_those_are_the_models_that_vllm_refuses_in_float16() -> None:
    assert set(pytest.importorskip("vllm.config.model")._FLOAT16_NOT_SUPPORTED_MODELS) == OVERFLOWING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_small_weights_are_computed_exactly_everywhere(tmp_path: Path, dtype: torch.dtype) -> None:
    for machine in (SLOW, FAST, OLD, NEW):
        assert precision_for(saved(tmp_path, dtype), machine=lambda here=machine: here).dtype == "float32"


def test_what_is_given_counts_by_vllm_s_names_too(tmp_path: Path) -> None:
    assert precision_for(tmp_path, "half") == Precision("float16", "it was given")
    assert precision_for(tmp_path, "float").dtype == "float32" and precision_for(tmp_path, "bfloat16").dtype == "bfloat16"


def test_a_checkpoint_is_in_the_dtype_of_most_of_its_bytes(tmp_path: Path) -> None:
    dtype, size = stored_in(saved(tmp_path, torch.bfloat16))
    assert (dtype, size) == ("bfloat16", 2 * sum(p.numel() for p in tiny_model().parameters()))
    assert precision_for(models.bundled(), machine=lambda: NEW).dtype == "float32", "as its calibration was made"
    assert stored_in(tmp_path / "nothing") == ("float32", 0)


@pytest.mark.parametrize(
    ("cpuinfo", "bf16"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd i8mm bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f\nmodel name: a bf16 machine\n", False),
    ],
)
def test_a_cpu_s_flags_tell_whether_it_multiplies_in_bf16(tmp_path: Path, monkeypatch, cpuinfo: str, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert Machine.here(tmp_path / "cpuinfo") == Machine(False, bf16)
    assert Machine.here(tmp_path / "none") == Machine(False, False)
