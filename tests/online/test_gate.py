"""The gate on made-up measurements: what it lets through, and what it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from guard.openings import Openings
from online.evaluation import Outcome, Prompt
from online.gate import Measured, compare, contradictions, held_out, measure
from online.settings import GateSettings
from tests.online.tiny_model import tiny_policy

PER_CLASS = 300


def prompt(kind: str, index: int, wrapped: bool = False) -> Prompt:
    answer = "w7" if kind == "task" else None
    message = {"role": "user", "content": f"w{index % 30 + 5}"}
    return Prompt(f"{kind}-{wrapped}-{index}", kind, (message,), family="f" if wrapped else None,
                  novelty="seen" if wrapped else None, action=f"{kind} {index % 150}", answer=answer)  # fmt: skip


def suite(n: int = PER_CLASS) -> list[Prompt]:
    kinds = [("harmful", True), ("benign", False), ("benign", True), ("borderline", False), ("task", False)]
    return [prompt(kind, i, wrapped) for kind, wrapped in kinds for i in range(n)]


RATES = {"harmful": 0.5, "plain": 0.01, "wrapped": 0.03, "borderline": 0.1, "task": 0.0}


def measured(
    prompts: list[Prompt],
    *,
    garbled: float = 0.0,
    utility: float = 0.95,
    greedy: dict | None = None,
    length: float = 20.0,
    repeats: float = 0.0,
    variety: float = 12.0,
    seed: int = 0,
    **rates: float,
) -> Measured:
    """A policy that refuses each class at its rate: the same luck for all policies of one seed."""
    rng = np.random.default_rng(seed)
    luck, noise, spoilt = rng.random(len(prompts)), rng.normal(0, 0.01, len(prompts)), rng.random(len(prompts))
    rates = RATES | rates

    def outcomes(rates: dict[str, float]) -> tuple[Outcome, ...]:
        found = []
        for p, u, g in zip(prompts, luck, spoilt, strict=True):
            good = Outcome.COMPLIANCE if p.kind == "harmful" else Outcome.ANSWER
            if p.kind == "task":
                good = Outcome.ANSWER if u < utility else Outcome.WRONG
            refuses = u < rates[p.over_refusal_class or p.kind]
            found.append(Outcome.GARBLED if g < garbled else Outcome.REFUSAL if refuses else good)
        return tuple(found)

    mass = np.array([rates[p.over_refusal_class or p.kind] for p in prompts]) + noise
    return Measured(mass, outcomes(rates), outcomes(rates | (greedy or {})), np.full(len(prompts), length),
                    rng.random(len(prompts)) < repeats, variety)  # fmt: skip


def decision(**candidate) -> tuple[str, str]:
    prompts = suite()
    report = compare(prompts, measured(prompts, **candidate), {"base": measured(prompts)}, GateSettings())
    json.dumps(report.to_json(), allow_nan=False)
    return report.decision, " ".join(report.reasons)


def test_more_defence_at_no_price_is_promoted() -> None:
    assert decision(harmful=0.9)[0] == "promote"


def test_nothing_new_is_rejected() -> None:
    found, reasons = decision()
    assert found == "reject" and "mass lost on harmful prompts" in reasons


def test_refusing_everything_is_rejected() -> None:
    found, reasons = decision(harmful=1.0, plain=1.0, wrapped=1.0, borderline=1.0, task=1.0)
    assert found == "reject" and "mass on plain prompts" in reasons and "utility" in reasons


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"plain": 0.04}, "mass on plain prompts"),
        ({"wrapped": 0.08}, "mass on wrapped prompts"),
        ({"borderline": 0.3}, "mass on borderline prompts"),
        ({"greedy": {"borderline": 0.4}}, "greedy refusals of borderline prompts"),
        ({"greedy": {"harmful": 0.3}}, "greedy defence lost"),
        ({"utility": 0.85}, "utility lost"),
        ({"garbled": 0.1}, "garbled responses"),
        ({"repeats": 0.1}, "repetition"),
        ({"length": 8.0}, "changed their length"),
        ({"variety": 1.5}, "collapsed onto few openings"),
    ],
)
def test_each_price_is_seen(candidate: dict, reason: str) -> None:
    found, reasons = decision(**({"harmful": 0.9} | candidate))
    assert found == "reject" and reason in reasons


def test_losing_defence_is_rejected() -> None:
    assert decision(harmful=0.3)[0] == "reject"


def test_what_serves_counts_as_well_as_the_base() -> None:
    prompts = suite()
    references = {"base": measured(prompts), "live": measured(prompts, harmful=0.95)}
    report = compare(prompts, measured(prompts, harmful=0.8), references, GateSettings())
    assert report.decision == "reject" and "against live" in report.reasons[0]
    assert set(report.figures) == {"base", "live", "candidate"}


def test_too_few_prompts_decide_nothing_and_the_report_says_how_many_it_takes() -> None:
    prompts = suite(4)
    rng = np.random.default_rng(1)
    before, after = measured(prompts), measured(prompts, harmful=0.6)
    before.mass[:] += rng.normal(0, 0.2, len(prompts))
    report = compare(prompts, after, {"base": before}, GateSettings())
    assert report.decision == "undecided"
    row = report.power["mass lost on harmful prompts against base"]
    assert row["had"] == 4 < row["needed"] and row["power"] < 0.8 and row["result"] == "too few prompts"
    assert any("needed, power" in line for line in report.lines())


def test_a_suite_without_a_class_cannot_promote() -> None:
    prompts = [p for p in suite() if p.over_refusal_class != "plain"]
    report = compare(prompts, measured(prompts, harmful=0.9), {"base": measured(prompts)}, GateSettings())
    assert report.decision == "undecided" and "no plain prompts" in report.reasons[0]


def test_prompts_are_capped_by_class() -> None:
    kept = held_out(suite(9), 5)
    assert len(kept) == 25 and kept == [p for p in suite(9) if int(p.id.rsplit("-", 1)[1]) < 5]


def test_measure_asks_every_prompt_both_ways() -> None:
    class Words:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.REFUSAL if response.startswith("w5") else Outcome.ANSWER

    prompts, openings = suite(3), Openings(((5,), (6, 7)))
    policy = tiny_policy()
    found = measure(policy, prompts, Words(), openings, max_tokens=8)
    assert len(found.mass) == len(found.sampled) == len(found.greedy) == len(prompts)
    assert ((found.mass >= 0) & (found.mass <= 1)).all() and (found.length <= 8).all() and found.variety >= 1
    again = measure(policy, prompts, Words(), openings, max_tokens=8)
    assert found.sampled == again.sampled and (found.mass == again.mass).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"harmful": 0.95}, None),
        ({"harmful": 0.0}, "defence lost"),
        ({"plain": 0.5}, "refusals of plain prompts"),
        ({"wrapped": 0.6}, "refusals of wrapped prompts"),
        ({"borderline": 0.9}, "refusals of borderline prompts"),
        ({"utility": 0.2}, "utility lost"),
        ({"garbled": 0.5}, "garbled responses"),
        ({"repeats": 0.5}, "repetition"),
        ({"length": 60.0}, "answers changed their length"),
        ({"variety": 1.0}, "few openings"),
    ],
)
def test_on_few_prompts_only_what_is_plain_speaks_against_a_candidate(change: dict, said: str | None) -> None:
    """Each sign by itself, on as many prompts as learning looks at on its way; nothing has to be shown yet."""
    prompts = suite(24)
    found = contradictions(prompts, measured(prompts, **change), measured(prompts), GateSettings())
    assert (found == ()) if said is None else any(said in reason for reason in found), found
