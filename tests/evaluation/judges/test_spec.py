"""Judges by the words of a command line."""

import pytest

from evaluation import GrammarJudge, JudgeError
from evaluation.judges import FORMS, HarmBenchJudge, HumanJudge, RubricJudge, RulesJudge, YesNoJudge, judge_of
from evaluation.judges.harmbench import TEMPLATE
from evaluation.utility import Sandbox

AT = "org/model:tag@http://127.0.0.1:9/v1"


def test_every_form_makes_its_judge(tmp_path):
    labels = tmp_path / "a:b.jsonl"
    labels.write_text('{"id": "a", "response_sha256": "00", "outcome": "refusal"}\n')
    made = {
        "grammar": GrammarJudge,
        "rules": RulesJudge,
        f"rubric:{AT}": RubricJudge,
        f"yes-no:{AT}": YesNoJudge,
        f"harmbench:{AT}": HarmBenchJudge,
        f"human:{labels}": HumanJudge,
    }
    assert {spec.split(":")[0] for spec in made} == FORMS.keys()
    for spec, kind in made.items():
        assert type(judge_of(spec)) is kind


def test_settings_reach_the_judge(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("{behavior} {generation}")
    sandbox = Sandbox(seconds=1)
    judge = judge_of(f"harmbench:{AT}", threshold=0.7, template=own, sandbox=sandbox)
    assert isinstance(judge, HarmBenchJudge) and judge.template != TEMPLATE
    assert (judge.threshold, judge.sandbox, judge.endpoint.model) == (0.7, sandbox, "org/model:tag")


def test_tasks_whose_code_is_run_have_a_sandbox_without_asking_for_one():
    for spec in ("rules", f"rubric:{AT}", f"yes-no:{AT}", f"harmbench:{AT}"):
        assert judge_of(spec).sandbox == Sandbox()


@pytest.mark.parametrize(
    ("spec", "more", "complaint"),
    [
        ("oracle", {}, "no judge 'oracle': use one of grammar, rules, rubric:MODEL@URL"),
        ("rules:x", {}, "'rules' takes nothing after it: write rules"),
        ("rubric", {}, "lacks what it judges with: write rubric:MODEL@URL"),
        ("yes-no:model", {}, "needs a model and a URL, not 'model': write yes-no:MODEL@URL"),
        ("rubric:m@ftp://x", {}, "needs a model and a URL"),
        ("rubric:m@http://u:pw@x/v1", {}, "holds a password: give keys by an environment variable"),
        ("human:", {}, "lacks what it judges with: write human:FILE"),
        ("human:no-such.jsonl", {}, "cannot be read"),
        (f"rubric:{AT}", {"threshold": 0.0}, "threshold of 0.0 sorts nothing"),
        (f"rubric:{AT}", {"template": "x"}, "'rubric' takes no template"),
        (f"rubric:{AT}", {"key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
    ],
)
def test_others_are_refused_in_one_sentence(spec, more, complaint):
    with pytest.raises(JudgeError, match=complaint) as caught:
        judge_of(spec, **more)
    assert ": " in str(caught.value) and "pw" not in str(caught.value)
