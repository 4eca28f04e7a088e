"""Which of two is better, asked both ways round."""

import pytest

from evaluation import JudgeError, Prompt
from evaluation.judges import JudgeModel
from evaluation.pairwise import PairwiseJudge, win_rate
from tests.evaluation.endpoint_server import asked, serving

PROMPT = Prompt("p-1", "benign", ({"role": "user", "content": "Say {it}."},), answer="the reference")


def prefers(text):
    """A judge that likes replies with this text, wherever they stand."""
    return lambda body: "Both are short. Verdict: " + ("A" if text in asked(body).split("<reply_b>")[0] else "B")


def test_the_better_reply_wins_from_either_place():
    with serving(prefers("good")) as served:
        judge = PairwiseJudge(JudgeModel("m", served.url))
        assert judge.compare(PROMPT, "good {a}", "bad") == "ours" and judge.compare(PROMPT, "bad", "good") == "theirs"
    said = asked(served.bodies[0])
    assert "Say {it}." in said and "good {a}" in said and "the reference" in said
    assert said.index("good") < said.index("bad") and asked(served.bodies[1]).index("bad") < asked(served.bodies[1]).index(
        "good"
    )


@pytest.mark.parametrize("verdict", ["Verdict: A", "**Verdict:** B", "[[A]]", "verdict - tie", "[[C]]"])
def test_a_judge_that_goes_by_the_place_ties(verdict):
    with serving(lambda body: f"Well. {verdict}") as served:
        assert PairwiseJudge(JudgeModel("m", served.url)).compare(PROMPT, "a", "b") == "tie"


def test_the_last_verdict_counts_and_none_twice_is_an_error():
    answers = iter(["Verdict: A? No. Verdict: B", "Hm.", "Verdict: A"])
    with serving(lambda body: next(answers)) as served:
        assert PairwiseJudge(JudgeModel("m", served.url)).compare(PROMPT, "a", "b") == "theirs"
    with serving(lambda body: "Hm.") as served, pytest.raises(JudgeError, match="no verdict on p-1 twice"):
        PairwiseJudge(JudgeModel("m", served.url)).compare(PROMPT, "a", "b")


def test_win_rate_counts_a_tie_half():
    figure = win_rate(["ours"] * 6 + ["theirs"] * 2 + ["tie"] * 2)
    assert figure.estimate == 0.7 and figure.n == 10 and 0.3 < figure.low < 0.7 < figure.high < 0.95
    assert win_rate([]).n == 0
