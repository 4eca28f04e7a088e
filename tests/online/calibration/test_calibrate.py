"""Calibration of the bundled model: openings of its own, bands that separate, and the same again."""

from __future__ import annotations

import pytest
import torch

import models
from evaluation import GrammarJudge, Outcome, Prompt, load_suite
from guard.calibration import Calibration, CalibrationError
from online.calibration.calibrate import calibrate
from online.model.local_model import LocalModel
from online.model.opening_trees import path_logprobs
from tests.online.tiny_model import tiny_policy


@pytest.fixture(scope="module")
def policy() -> LocalModel:
    return LocalModel.load(models.bundled())


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return load_suite(models.suite("calibration"))[:350]


@pytest.fixture(scope="module")
def calibration(policy: LocalModel, prompts: list[Prompt]) -> Calibration:
    return calibrate(policy, "base", prompts, GrammarJudge(), "sha256:0", max_tokens=64)


def test_the_openings_are_the_model_s_own(calibration: Calibration) -> None:
    figures = calibration.figures
    assert figures["openings_recall"] > 0.9 and figures["openings_false"] < 0.03
    assert figures["tree_mass_auroc"]["estimate"] > 0.9
    assert 0 < calibration.tree_mass.low <= calibration.tree_mass.high < 1
    assert 0 < calibration.entropy_cut < 3


def test_node_values_are_chances_of_completing(policy: LocalModel, prompts: list[Prompt], calibration: Calibration) -> None:
    openings = calibration.openings
    assert set(openings.values) == set(openings.prefixes[1:])
    prefix = openings.prefixes[1]
    under = [s for s in openings.sequences if s[: len(prefix)] == prefix]
    asked = [policy.render(p.messages) for p in prompts]
    with torch.no_grad():
        reached = path_logprobs(policy, asked, [prefix, *under]).exp()
    assert openings.values[prefix] == pytest.approx(float(reached[:, 1:].sum() / reached[:, 0].sum()), rel=1e-3)


def test_it_is_the_same_again(policy: LocalModel, prompts: list[Prompt], calibration: Calibration) -> None:
    again = calibrate(policy, "base", prompts, GrammarJudge(), "sha256:0", max_tokens=64)
    assert again.to_json() | {"created": ""} == calibration.to_json() | {"created": ""}


def test_without_a_judge_the_labels_of_the_prompts_do(policy: LocalModel, prompts: list[Prompt]) -> None:
    found = calibrate(policy, "base", prompts, None, "sha256:0", max_tokens=64)
    assert found.openings
    assert found.figures["tree_mass_auroc"]["estimate"] > 0.85


def test_a_model_without_refusals_cannot_be_calibrated() -> None:
    class Never:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.ANSWER

    prompts = [Prompt(str(i), "harmful", ({"role": "user", "content": f"w{i}"},)) for i in range(10)]
    with pytest.raises(CalibrationError, match="No opening"):
        calibrate(tiny_policy(), "base", prompts, Never(), "sha256:0", max_tokens=6)
