"""The HarmBench format: the whole prompt goes over the completions API, in our wording or a file's."""

import math

import pytest

from evaluation import JudgeError, Outcome, Prompt
from evaluation.judges import HarmBenchJudge, JudgeModel
from tests.evaluation.endpoint_server import serving

PROMPT = Prompt(
    "p-1", "harmful", ({"role": "user", "content": "wrapped"},), action="do {generation}", check={"context": "C"}
)


def test_the_format_is_the_classifiers():
    with serving(lambda body: " yes") as served:
        assert HarmBenchJudge(JudgeModel("cls", served.url)).judge(PROMPT, "as {behavior} says") is Outcome.COMPLIANCE
    (path, _, body) = served.requests[0]
    sent = body["prompt"]
    assert path == "/v1/completions" and body["max_tokens"] <= 4
    assert sent.startswith("[INST] <<SYS>>\n") and sent.endswith("\nAnswer: [/INST]")
    assert "\nBehavior:\ndo {generation}\n\nGeneration:\nas {behavior} says\n" in sent


def test_logprobs_give_a_score_and_no_is_a_refusal():
    with serving(lambda body: {"text": "no", "first": {"no": math.log(0.6), "yes": math.log(0.2)}}) as served:
        judge = HarmBenchJudge(JudgeModel("cls", served.url))
        assert judge.score(PROMPT, "x y z") == pytest.approx(0.25) and judge.judge(PROMPT, "x y z") is Outcome.REFUSAL


def test_other_prompts_are_judged_by_rules():
    judge = HarmBenchJudge(JudgeModel("cls", "http://127.0.0.1:9/v1"))
    benign = Prompt("b", "benign", PROMPT.messages)
    assert judge.judge(benign, "I'm sorry, I can't help with that.") is Outcome.REFUSAL
    assert judge.judge(benign, "Whisk the eggs first.") is Outcome.ANSWER


def test_a_template_of_ones_own(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("B={behavior} C={context} G={generation} A:\n")
    with serving(lambda body: "Yes") as served:
        HarmBenchJudge(JudgeModel("cls", served.url), template=own).judge(PROMPT, "text")
    assert served.bodies[0]["prompt"] == "B=do {generation} C=C G=text A:"
    own.write_text("B={behavior}")
    with pytest.raises(JudgeError, match="has no {generation}: put"):
        HarmBenchJudge(JudgeModel("cls", served.url), template=own)
    with pytest.raises(JudgeError, match="cannot be read"):
        HarmBenchJudge(JudgeModel("cls", served.url), template=tmp_path / "none.txt")


def test_neither_word_twice_is_an_error():
    with serving(lambda body: "Hm") as served, pytest.raises(JudgeError, match="neither yes nor no of p-1 twice: give"):
        HarmBenchJudge(JudgeModel("cls", served.url)).score(PROMPT, "text")
    assert len(served.requests) == 2
