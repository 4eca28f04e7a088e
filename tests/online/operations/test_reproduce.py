"""The published setting, from files: a whole model comes out, and a killed run ends with the same one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guard.errors import SirlError
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.operations.reproduce import reproduce
from online.settings.groups import UpdateSettings
from tests.online.tiny_model import Quiet, save_tiny

SETTINGS = UpdateSettings(
    preset="paper", steps=7, contested_per_step=3, max_tokens=6, learning_rate=1e-3, min_prompts=5, stop_kl=1e9
)


class Killed(Quiet):
    def update(self, n=1) -> None:
        self.done = getattr(self, "done", 0) + 1
        if self.done == 6:
            raise KeyboardInterrupt


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_tiny(tmp_path / "model"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [{"prompt": f"w{6 + i % 9} w7"} for i in range(40)] + [{"prompt": " "}, {"prompt": "w8 " * 2000}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "prompts.jsonl")


def test_a_whole_model_comes_out_and_a_killed_run_ends_with_the_same(tmp_path: Path, model: str, data: str) -> None:
    report = reproduce(model, data, tmp_path / "whole", SETTINGS, bar=Quiet)
    told = json.loads(report.with_suffix(".json").read_text())
    assert told["outcome"]["status"] == "trained" and told["bands"] == {"prompts": 9} and len(told["history"]) == 7
    with pytest.raises(KeyboardInterrupt):
        reproduce(model, data, tmp_path / "killed", SETTINGS, bar=Killed)
    assert torch.load(tmp_path / "killed/checkpoint.pt", weights_only=True)["step"] == 5
    reproduce(model, data, tmp_path / "killed", SETTINGS, bar=Quiet)
    assert not (tmp_path / "killed/checkpoint.pt").exists()
    folders = (Path(model), tmp_path / "whole", tmp_path / "killed")
    base, whole, killed = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(whole[name], killed[name]) for name in base)
    assert any(not torch.equal(whole[name], base[name]) for name in base)
    generate(LocalModel.load(tmp_path / "whole"), [(5, 6)], max_tokens=3)


def test_steps_too_small_for_half_precision_are_not_lost(tmp_path: Path, model: str, data: str) -> None:
    settings = SETTINGS.model_copy(update={"dtype": "bfloat16", "steps": 1, "learning_rate": 1e-6})
    reproduce(model, data, tmp_path / "out", settings, bar=Quiet)
    base, made = load_file(Path(model) / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    moved = max((base[name].bfloat16().float() - made[name]).abs().max().item() for name in base)
    assert 0 < moved < 1e-5 and all(tensor.dtype == torch.float32 for tensor in made.values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"preset": "anchored"}, "use `sirl update`"), ({"min_prompts": 10}, "holds 9 usable prompts")],
)
def test_a_reason_not_to_begin_is_one_sentence(tmp_path: Path, model: str, data: str, change: dict, reason: str) -> None:
    with pytest.raises(SirlError, match=reason):
        reproduce(model, data, tmp_path / "out", SETTINGS.model_copy(update=change), bar=Quiet)
    assert not (tmp_path / "out").exists()


def test_bad_data_is_named_by_file_and_line(tmp_path: Path, model: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "w6"}\n{"text": "w7"}\n')
    with pytest.raises(SirlError, match=r"bad\.jsonl:2"):
        reproduce(model, str(tmp_path / "bad.jsonl"), tmp_path / "out", SETTINGS, bar=Quiet)


def test_what_is_neither_here_nor_to_be_had_is_said_so(tmp_path: Path, model: str, data: str) -> None:
    with pytest.raises(SirlError, match="no file"):
        reproduce(model, "nobody/nothing", tmp_path / "out", SETTINGS, bar=Quiet)
    with pytest.raises(SirlError, match="is no folder and cannot be fetched"):
        reproduce("nobody/nothing", data, tmp_path / "out", SETTINGS, bar=Quiet)
