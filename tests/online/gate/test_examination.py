"""An examination asks no more than it takes to decide."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from evaluation import Outcome, Prompt, wanted
from guard.openings import Openings
from online.gate.answers import LIVE, Answers, answer
from online.gate.examination import examine
from online.gate.gate import Measured, compare
from online.gate.held_out import HeldOut, Rows
from online.gate.look import looks
from online.gate.scores import Scores, score
from online.settings.groups import GateSettings
from tests.online.gate.labelled import PER_CLASS, prompt, suite
from tests.online.gate.test_gate import changed, in_families, live, measured
from tests.online.tiny_model import tiny_llm

PLAINLY_BETTER = {"harmful": 0.9, "plain": 0.0, "wrapped": 0.0, "borderline": 0.0}


class Exam:
    """Policies whose answers are known, and who was asked how many scores and answers."""

    def __init__(self, models: dict[str, Measured], held_out: HeldOut) -> None:
        self.models, self.held_out = models, held_out
        self.scored, self.asked = Counter[str](), Counter[str]()

    def score(self, name: str, rows: Rows) -> Scores:
        self.scored[name] += len(rows.asked)
        return _at(self.models[name].scores, rows, live=("live",))

    def answer(self, name: str, rows: Rows) -> Answers:
        self.asked[name] += len(rows.asked)
        return _at(self.models[name].answers, rows, live=LIVE)


def _at(whole, rows: Rows, live: tuple[str, ...]):
    kept = {}
    for name in whole.__slots__:
        values, at = getattr(whole, name), rows.traffic if name in live else rows.asked
        kept[name] = values[at] if isinstance(values, np.ndarray) else tuple(values[row] for row in at)
    return type(whole)(**kept)


@pytest.mark.parametrize(
    ("candidate", "decision", "scored", "asked"),
    [
        (PLAINLY_BETTER, "promote", 1 / 2, 1 / 2),
        ({"harmful": 0.9, "borderline": 0.5}, "reject", 1 / 4, 0),
        ({"harmful": 0.2}, "reject", 1 / 4, 0),
        (PLAINLY_BETTER | {"greedy": {"harmful": 0.1}}, "reject", 1 / 2, 1 / 4),
    ],
)
def test_what_is_plain_is_decided_before_all_is_asked(candidate: dict, decision: str, scored: float, asked: float) -> None:
    prompts = in_families([*suite(), *(prompt("task", index) for index in range(PER_CLASS, 2 * PER_CLASS))], "-")
    held_out = HeldOut(prompts)
    exam = Exam({"base": measured(prompts), "candidate": measured(prompts, **candidate)}, held_out)
    report = examine(held_out, exam, ["base"], GateSettings(), "a")
    assert report.decision == decision, report.reasons
    assert 0 < exam.scored["candidate"] == exam.scored["base"] <= scored * len(prompts)
    assert exam.asked["candidate"] == exam.asked["base"] <= asked * len(prompts)
    answers = f"answers at look {report.answered.number}" if asked else "no answer asked"
    assert next(report.lines()) == f"gate: {decision}, at look {report.look.number} of 3, {answers}"
    assert ("sampled" in report.figures["candidate"]) == (asked > 0)


def test_before_a_promotion_all_masses_of_families_are_seen_and_one_that_lost_is_found() -> None:
    """Of eight prompts a family, two in the first look and four in the second."""
    prompts = in_families(suite(), "".join(chr(ord("a") + at) for at in range(PER_CLASS // 8)))
    base, good = measured(prompts, likelihood=-0.4), measured(prompts, **PLAINLY_BETTER, likelihood=-0.4)
    exam = Exam({"base": base, "candidate": good}, HeldOut(prompts))
    report = examine(exam.held_out, exam, ["base"], GateSettings(), "a")
    assert report.decision == "promote" and report.look.last and exam.scored["base"] == len(prompts)
    assert exam.asked["base"] < len(prompts), "answers end where they contradict nothing"
    mine = np.array([p.kind == "harmful" and p.family == "c" for p in prompts])
    lost = changed(good, mass=np.where(mine, 0.0, good.scores.mass))
    exam = Exam({"base": base, "candidate": lost}, HeldOut(prompts))
    report = examine(exam.held_out, exam, ["base"], GateSettings(), "a")
    assert report.decision == "reject" and "mass lost on a family of attacks (c)" in report.reasons[0]
    assert not exam.asked


def test_answers_are_asked_of_as_few_prompts_as_agree_however_many_the_scores_took() -> None:
    prompts = suite()
    rng = np.random.default_rng(3)
    base = measured(prompts, **PLAINLY_BETTER | {"harmful": 0.5}, likelihood=-0.4)
    good = measured(prompts, **PLAINLY_BETTER, likelihood=-0.4)
    wobbly = changed(good, mass=good.scores.mass + rng.normal(0, 0.08, len(prompts)))
    exam = Exam({"base": base, "candidate": wobbly}, HeldOut(prompts))
    report = examine(exam.held_out, exam, ["base"], GateSettings(), "a")
    assert report.decision == "promote" and report.look.last and exam.scored["base"] == len(prompts)
    assert report.answered.number == 1 and exam.asked["base"] <= len(prompts) / 4


def test_where_scores_decide_nothing_the_answers_of_one_look_may_still_reject() -> None:
    prompts = suite(12)
    held_out = HeldOut(prompts, {}, {"theirs": prompts[-1:]})
    both = held_out.asked
    base, same = measured(both), measured(both)
    wrong = changed(same, greedy=(*same.answers.greedy[: len(prompts)], Outcome.WRONG))
    exam = Exam({"base": base, "candidate": wrong}, held_out)
    report = examine(held_out, exam, ["base"], GateSettings(), "a")
    assert report.decision == "reject" and "theirs has a veto" in " ".join(report.reasons)
    assert report.answered.number == 1 and exam.asked["base"] < len(both)


def test_at_the_last_look_all_was_asked_and_the_report_is_the_whole_exam_s() -> None:
    """With all the error: of one look, what is asked in parts is what is asked at once."""
    prompts = suite(60)
    held_out = HeldOut(prompts, {"a": prompts[:30]}, {}, [(1, at) for at in range(100)])
    both = [*prompts, *prompts[:30]]
    models = {"base": live(measured(both), 0.001, kl=0.0), "candidate": live(measured(both, harmful=0.55), 0.002)}
    exam = Exam(models, held_out)
    report = examine(held_out, exam, ["base"], GateSettings(looks=1))
    whole = compare(held_out, models["candidate"], {"base": models["base"]}, GateSettings())
    assert report == whole and exam.asked["candidate"] == exam.scored["base"] == len(both)


def test_signs_of_collapse_hold_a_promotion_back_and_reject_at_the_end() -> None:
    prompts = suite()
    held_out = HeldOut(prompts)
    models = {"base": measured(prompts), "candidate": measured(prompts, harmful=0.9, length=40.0)}
    exam = Exam(models, held_out)
    report = examine(held_out, exam, ["base"], GateSettings())
    assert report.decision == "reject" and "changed their length" in report.reasons[0] and report.answered.last
    assert exam.asked["base"] == len(prompts)


@pytest.mark.parametrize("luck", "abcd")
def test_what_all_prompts_contradict_is_not_passed_by_at_an_early_look(luck: str) -> None:
    """Masses promote at a quarter or half of the prompts, and there the check's error rate is a sixteenth or three."""
    prompts = suite()
    spoilt = measured(prompts, **PLAINLY_BETTER, greedy={"borderline": 0.15})
    exam = Exam({"base": measured(prompts), "candidate": spoilt}, HeldOut(prompts))
    report = examine(exam.held_out, exam, ["base"], GateSettings(), luck)
    assert report.decision == "reject" and "greedy refusals of borderline prompts" in report.reasons[0]


@pytest.mark.parametrize("wrong", range(0, 40, 3))
def test_one_prompt_of_a_veto_ends_it_at_the_first_look(wrong: int) -> None:
    prompts = suite()
    held_out = HeldOut(prompts, {}, {"theirs": prompts[300:340]})
    both = held_out.asked
    good = measured(both, **PLAINLY_BETTER)
    greedy = [*good.answers.greedy[: len(prompts)], *map(wanted, prompts[300:340])]
    greedy[len(prompts) + wrong] = Outcome.REFUSAL
    exam = Exam({"base": measured(both), "candidate": changed(good, greedy=tuple(greedy))}, held_out)
    report = examine(held_out, exam, ["base"], GateSettings())
    assert report.decision == "reject" and report.answered.number == 1
    assert f"1 of its 40 prompts came out wrong, {prompts[300 + wrong].id}" in " ".join(report.reasons)


def test_what_an_operators_suite_contradicts_with_all_its_prompts_ends_it_at_the_first_look() -> None:
    """A suite of 80 of which ten are refused more: plain of all 80, and not of a quarter of them."""
    prompts, theirs = suite(), suite(80)[80:160]
    held_out = HeldOut(prompts, {"theirs": theirs})
    both = held_out.asked
    base, good = measured(both, plain=0.0), measured(both, **PLAINLY_BETTER)
    spoilt = [Outcome.REFUSAL if at % 8 == 0 else wanted(p) for at, p in enumerate(theirs)]
    exam = Exam({"base": base, "candidate": changed(good, greedy=(*good.answers.greedy[: len(prompts)], *spoilt))}, held_out)
    report = examine(held_out, exam, ["base"], GateSettings())
    assert report.decision == "reject" and report.answered.number == 1
    assert report.reasons[0].startswith("theirs: greedy refusals of plain prompts"), report.reasons


def test_a_small_exam_ends() -> None:
    """Where a class has few prompts, later looks add none of it, and perhaps live traffic alone."""
    for count in (1, 2, 7):
        prompts = suite(count)
        exam = Exam({"base": measured(prompts), "candidate": measured(prompts, harmful=1.0)}, HeldOut(prompts))
        assert examine(HeldOut(prompts), exam, ["base"], GateSettings()).decision == "undecided"


def test_what_a_model_answers_is_the_same_however_it_is_asked() -> None:
    class Words:
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            return Outcome.REFUSAL if response.startswith("w5") else Outcome.ANSWER

    held_out = HeldOut(suite(4), {"a": suite(1)}, {}, [(5, at % 30 + 5) for at in range(9)])
    llm, openings, limits = tiny_llm(), Openings(((5,), (6, 7))), {"max_tokens": 8, "task_tokens": 12}
    whole, scores = answer(llm, held_out, Words(), **limits), score(llm, held_out, openings)
    rows = [rows for _, rows in looks(held_out, 3, "luck")]
    again = Answers.joined([answer(llm, held_out, Words(), rows=each, **limits) for each in rows], rows)
    scored = Scores.joined([score(llm, held_out, openings, rows=each) for each in rows], rows)
    for name in ("sampled", "greedy", "opening"):
        assert getattr(again, name) == getattr(whole, name)
    for name in ("length", "repeats", "cut", "live_length"):
        assert (getattr(again, name) == getattr(whole, name)).all()
    for name in ("mass", "likelihood", "live"):
        np.testing.assert_allclose(getattr(scored, name), getattr(scores, name), rtol=1e-4, atol=1e-6)
    some = Rows(np.array([], int), np.array([2, 5]))
    assert (answer(llm, held_out, Words(), rows=some, **limits).live_length == whole.live_length[[2, 5]]).all()
    assert len(score(llm, held_out, openings, rows=some).mass) == 0
