"""Which prompts measure a model, and who judges its answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import models
from evaluation import GrammarJudge
from evaluation.judges import RulesJudge
from evaluation.suite import SuiteError
from online.operations.suites import speaks_bundled_grammar, suites_for
from online.settings.groups import GateSettings, UpdateSettings
from online.settings.settings import Settings
from tests.online.tiny_model import save_tiny


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An operator's folder of suites, without one for the gate."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("calibration", "validation"):
        rows = [{"prompt": f"{name} {number}", "kind": "benign"} for number in range(3)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_bundled_model_has_its_suites_and_its_judge_wherever_it_lies(tmp_path: Path) -> None:
    copied = shutil.copytree(models.bundled(), tmp_path / "copy")
    assert speaks_bundled_grammar(copied)
    suites = suites_for(copied, Settings())
    assert suites is not None and isinstance(suites.judge, GrammarJudge)
    assert len(suites.gate) > len(suites.validation) > 0


def test_another_model_has_none_until_its_operator_names_a_folder(tmp_path: Path, own: Path) -> None:
    model = save_tiny(tmp_path / "model")
    assert not speaks_bundled_grammar(model) and suites_for(model, Settings()) is None
    suites = suites_for(model, Settings(update=UpdateSettings(suite=own)))
    assert suites is not None and isinstance(suites.judge, RulesJudge)
    assert [prompt.text for prompt in suites.gate] == [f"validation {number}" for number in range(3)]


def test_further_suites_and_vetoes_go_by_their_files_names(own: Path) -> None:
    gate = GateSettings(suites=(own / "calibration.jsonl",), vetoes=(own / "validation.jsonl",))
    suites = suites_for(models.bundled(), Settings(gate=gate))
    assert suites is not None and list(suites.extra) == ["calibration"] and list(suites.vetoes) == ["validation"]
    (own / "validation.jsonl").unlink()
    with pytest.raises(SuiteError, match=r"validation\.jsonl"):
        suites_for(models.bundled(), Settings(update=UpdateSettings(suite=own)))
