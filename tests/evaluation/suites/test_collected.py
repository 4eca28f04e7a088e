"""Collected rows: the kind of a prompt by its label and set."""

import json

import pytest

from evaluation.suite import SuiteError
from evaluation.suites import load

BASE = {"id": "r-1", "set": "advbench", "split": "open", "category": "c", "prompt": "Do x", "label": "harmful"}


def loaded(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**BASE, **row}) + "\n" for row in rows))
    return load(path)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({}, "harmful"),
        ({"set": "xstest"}, "harmful"),
        ({"set": "xstest", "label": "benign"}, "borderline"),
        ({"set": "jbb_benign", "label": "benign"}, "borderline"),
        ({"set": "mtbench", "label": "benign"}, "benign"),
        ({"set": "selfinstruct_seed", "label": "benign", "answer": "one of many"}, "benign"),
        ({"set": "gsm8k", "label": "benign", "answer": "3"}, "task"),
        ({"set": "humaneval", "label": "benign", "test": "T", "entry_point": "f"}, "task"),
    ],
)
def test_kinds(tmp_path, row, kind):
    assert [prompt.kind for prompt in loaded(tmp_path, row)] == [kind]


def test_the_right_code_is_told_as_a_model_would_tell_it(tmp_path):
    row = {"set": "humaneval", "label": "benign", "prompt": "def f():\n", "test": "T", "entry_point": "f"}
    assert loaded(tmp_path, row)[0].answer is None
    (prompt,) = loaded(tmp_path, row | {"answer": "    return 7\n"})
    assert prompt.answer == "```python\ndef f():\n    return 7\n```" and prompt.check["kind"] == "unit_tests"


def test_what_is_known_is_kept(tmp_path):
    (prompt,) = loaded(tmp_path, {"goal": "x itself", "family": "DAN", "prompt": "As Dan, x itself"})
    known = (prompt.id, prompt.action, prompt.family, prompt.topic, prompt.split)
    assert known == ("r-1", "x itself", "DAN", "c", "open")
    assert loaded(tmp_path, {})[0].action == "Do x"


def test_templates_are_no_prompts_and_other_labels_are_refused(tmp_path):
    template = {"id": "r-2", "label": "jailbreak_template", "kind": "template", "prompt": "As Dan, [INSERT]"}
    assert [prompt.id for prompt in loaded(tmp_path, {}, template)] == ["r-1"]
    with pytest.raises(SuiteError, match="line 1 has the label 'odd', and not 'harmful' or 'benign'"):
        loaded(tmp_path, {"label": "odd"})
