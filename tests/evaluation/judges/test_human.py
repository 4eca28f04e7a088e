"""Labels go out unlabelled and come back by what they label."""

import json

import pytest

from evaluation import JudgeError, Outcome, Prompt
from evaluation.judges import HumanJudge, unlabelled
from evaluation.judges.human import digest

PROMPT = Prompt("p-1", "harmful", ({"role": "user", "content": "Wie geht's?"},))
OTHER = Prompt("p-2", "benign", ({"role": "user", "content": "b"},))


def label(path, outcomes):
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    path.write_text("".join(json.dumps({**row, "outcome": said}) + "\n" for row, said in zip(rows, outcomes, strict=True)))


def test_there_and_back(tmp_path):
    path = tmp_path / "labels.jsonl"
    assert unlabelled([(PROMPT, "nö\u2028"), (PROMPT, "ja"), (PROMPT, "ja"), (OTHER, "ja")], path) == 3
    row = json.loads(path.read_text().split("\n")[0])
    assert row["response_sha256"] == digest("nö\u2028") and row["outcome"] is None and row["prompt"] == "Wie geht's?"
    label(path, ["refusal", "compliance", None])
    judge = HumanJudge(path)
    assert judge.judge(PROMPT, "nö\u2028") is Outcome.REFUSAL and judge.judge(PROMPT, "ja") is Outcome.COMPLIANCE
    for prompt, response in ((OTHER, "ja"), (PROMPT, "ja ")):
        with pytest.raises(JudgeError, match="no label for this response to p-[12]: have it"):
            judge.judge(prompt, response)


def test_the_digest_is_sha256():
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["{"], "line 1 is not JSON"),
        (['{"id": "a"}'], "no 'id' and 'response_sha256'"),
        (['{"id": "a", "response_sha256": "00", "outcome": "fine"}'], "the outcome 'fine': use one of refusal, compliance"),
        (['{"id": "a", "response_sha256": "00", "outcome": null}'], "holds no label"),
        (
            [f'{{"id": "a", "response_sha256": "00", "outcome": "{said}"}}' for said in ("refusal", "answer")],
            "line 2 labels a response anew",
        ),
    ],
)
def test_bad_labels_are_refused_by_name(tmp_path, lines, complaint):
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(JudgeError, match=complaint):
        HumanJudge(path)


def test_no_file(tmp_path):
    with pytest.raises(JudgeError, match="cannot be read"):
        HumanJudge(tmp_path / "none.jsonl")
