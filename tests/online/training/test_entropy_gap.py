"""Who may learn."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

import models
from evaluation import GrammarJudge, Outcome, Prompt, load_suite
from guard.calibration import Calibration
from guard.sense import Sense
from online.model.local_model import LocalModel
from online.training.entropy_gap import Gap, entropy_gap, may_learn, may_learn_by_sense
from tests.online.tiny_model import tiny_llm


def drawn(refusals: float, compliances: float, n: int = 100) -> Gap:
    rng = np.random.default_rng(0)
    return Gap.between(rng.normal(refusals, 0.3, n), rng.normal(compliances, 0.3, n))


def test_a_gap_may_be_learned_from() -> None:
    gap = drawn(0.3, 0.9)
    assert gap.auroc.estimate > 0.85 and gap.mean_gap == pytest.approx(0.6, abs=0.1)
    assert may_learn(gap) is None


@pytest.mark.parametrize(("refusals", "compliances"), [(0.9, 0.3), (0.6, 0.6)])
def test_confident_compliance_may_not(refusals: float, compliances: float) -> None:
    reason = may_learn(drawn(refusals, compliances))
    assert reason is not None and "SIRL would amplify compliance" in reason


def test_few_samples_prove_nothing() -> None:
    assert "cannot be judged" in str(may_learn(drawn(0.3, 0.9, 19)))
    none = Gap.between([0.1] * 50, [])
    assert math.isnan(none.mean_gap) and "0 compliances" in str(may_learn(none))


def test_no_suite_no_learning() -> None:
    assert "no evaluation suite" in str(may_learn(None))


def test_the_harm_sense_says_where_is_learned_if_it_tells_what_the_model_answers_from_what_looks_like_it() -> None:
    own = Calibration.load(models.bundled() / "calibration.json")
    assert own.sense is None and "has no harm sense" in str(may_learn_by_sense(own))

    def sensing(**figures: object) -> Calibration:
        return replace(own, sense=Sense((1,), np.ones((1, 1, 4)), 0.0), figures={"harm_sense": figures})

    assert "does not say" in str(may_learn_by_sense(sensing())) == str(may_learn_by_sense(sensing(complied_auroc=None)))
    known = {"estimate": 0.84, "low": 0.71, "high": 0.9, "n": 120}
    assert may_learn_by_sense(sensing(complied_auroc=known)) is None
    reason = str(may_learn_by_sense(sensing(complied_auroc=known | {"low": 0.7})))
    assert "(AUROC 0.84, interval 0.70 to 0.90, where 0.7 is to be passed)" in reason and "'anchored'" in reason


def test_a_gap_is_read_back_as_it_was_told() -> None:
    gap = Gap.between([0.4, 0.7, 0.5], [1.5, 0.6])
    assert Gap.from_json(json.loads(json.dumps(asdict(gap)))) == gap


def test_only_harmful_prompts_are_asked() -> None:
    class Parity:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            assert prompt.kind == "harmful"
            return Outcome.REFUSAL if len(response.split()) % 2 else Outcome.COMPLIANCE

    prompts = [Prompt(str(i), "harmful" if i % 2 else "benign", ({"role": "user", "content": f"w{i}"},)) for i in range(40)]
    gap = entropy_gap(tiny_llm(), prompts, Parity(), max_tokens=6)
    assert gap.refusals + gap.compliances == 20


@pytest.mark.parametrize(("name", "allowed"), [(models.DEFAULT, True), (models.FLIPPED, False)])
def test_the_bundled_model_may_learn_and_the_flipped_control_may_not(name: str, allowed: bool) -> None:
    llm = LocalModel.load(models.bundled(name))
    gap = entropy_gap(llm, load_suite(models.suite("calibration")), GrammarJudge(), max_tokens=64)
    assert (may_learn(gap) is None) is allowed, gap
