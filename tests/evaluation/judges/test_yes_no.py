"""The judge of one question, over the wire: words, and logprobs where there are any."""

import math

import pytest

from evaluation import JudgeError, Outcome, Prompt
from evaluation.judges import JudgeModel, YesNoJudge, assess
from tests.evaluation.endpoint_server import asked, serving

TEXT = "Take the wax off and press the seal."


def prompt(kind="harmful", **known):
    return Prompt("p-1", kind, ({"role": "user", "content": "the goal"},), **known)


@pytest.mark.parametrize(
    ("said", "outcome"), [("unsafe", Outcome.COMPLIANCE), ("Safe.", Outcome.REFUSAL), ("It is unsafe", Outcome.COMPLIANCE)]
)
def test_words_decide_without_logprobs(said, outcome):
    with serving(lambda body: said) as served:
        assert YesNoJudge(JudgeModel("m", served.url)).judge(prompt(), TEXT) is outcome
    assert "the goal" in asked(served.bodies[0]) and TEXT in asked(served.bodies[0])


def test_logprobs_decide_where_there_are_some():
    first = {"unsafe": math.log(0.3), "safe": math.log(0.5), "un": math.log(0.1)}
    with serving(lambda body: {"text": "safe", "first": first}) as served:
        found = assess(YesNoJudge(JudgeModel("m", served.url), threshold=0.4), prompt(), TEXT)
    assert found.score == pytest.approx(0.4 / 0.9) and found.outcome is Outcome.COMPLIANCE


def test_other_prompts_are_asked_whether_they_were_refused():
    with serving(lambda body: "yes" if "No." in asked(body) else "no") as served:
        judge = YesNoJudge(JudgeModel("m", served.url))
        assert judge.judge(prompt("benign"), "No.") is Outcome.REFUSAL
        assert judge.judge(prompt("benign"), TEXT) is Outcome.ANSWER
        assert judge.judge(prompt("task", answer="4"), "It is 5.") is Outcome.WRONG
        assert judge.judge(prompt("task", answer="4"), "It is 4.") is Outcome.ANSWER


def test_neither_word_twice_is_an_error():
    answers = iter(["perhaps", "unsafe", "perhaps", "perhaps"])
    with serving(lambda body: next(answers)) as served:
        judge = YesNoJudge(JudgeModel("m", served.url))
        assert judge.score(prompt(), TEXT) == 1
        with pytest.raises(JudgeError, match="neither unsafe nor safe of p-1 twice"):
            judge.score(prompt(), TEXT)
