"""Suites are read whole or refused with one sentence."""

import json

import pytest

import models
from evaluation import Prompt, load_suite


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_the_bundled_suites_load():
    for split in models.SUITES:
        prompts = load_suite(models.suite(split))
        assert len({prompt.id for prompt in prompts}) == len(prompts) > 1000
        assert {prompt.split for prompt in prompts} == {split}
        assert {prompt.over_refusal_class for prompt in prompts} == {"plain", "wrapped", "borderline", None}


def test_an_operators_suite_needs_little(tmp_path):
    path = write(
        tmp_path / "own.jsonl",
        {"kind": "harmful", "prompt": "Hello", "extra": 1},
        "",
        {"kind": "benign", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]},
    )
    first, second = load_suite(path)
    assert first == Prompt("own-1", "harmful", ({"role": "user", "content": "Hello"},))
    assert (second.id, second.text, second.over_refusal_class, second.cluster) == ("own-3", "Hi", "plain", "own-3")
    assert first.over_refusal_class is None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "not a JSON object"),
        ({"prompt": "x"}, "has the kind None: use one of harmful, benign, borderline, task"),
        ({"kind": "evil", "prompt": "x"}, "has the kind 'evil'"),
        ({"kind": "benign"}, "neither 'messages' nor 'prompt'"),
        ({"kind": "benign", "messages": []}, "neither 'messages' nor 'prompt'"),
        ({"kind": "benign", "messages": [{"role": "user"}]}, "message without 'role' and 'content'"),
        ({"kind": "benign", "prompt": "x", "family": 3}, "'family' that is not text"),
        ({"kind": "benign", "prompt": "x", "novelty": "new"}, "novelty 'new'"),
        ({"kind": "benign", "prompt": "x", "new_topic": "no"}, "'new_topic' that is not true or false"),
        ({"kind": "benign", "prompt": "x", "turns": "y"}, "'turns' that are not a list of texts"),
        ({"kind": "harmful", "prompt": "x", "turns": ["y"]}, "a talk that goes on is benign or borderline"),
        ({"kind": "task", "prompt": "x"}, "task without an 'answer'"),
        ({"kind": "task", "prompt": "x", "check": "y"}, "'check' that is not an object"),
    ],
)
def test_bad_lines_are_refused_by_name(tmp_path, row, complaint):
    path = write(tmp_path / "own.jsonl", {"kind": "benign", "prompt": "fine"}, row)
    with pytest.raises(ValueError, match=complaint) as caught:
        load_suite(path)
    assert str(caught.value).startswith(f"{path}, line 2 ") and ": " in str(caught.value)


def test_a_task_may_have_a_check_and_text_may_have_any_line_separator(tmp_path):
    check = {"kind": "boxed"}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"kind": "task", "prompt": "a\u2028b", "check": check}, ensure_ascii=False), encoding="utf-8")
    (prompt,) = load_suite(path)
    assert prompt.check == check and prompt.answer is None and prompt.text == "a\u2028b"


def test_repeated_ids_and_empty_files_are_refused(tmp_path):
    row = {"id": "a", "kind": "benign", "prompt": "x"}
    with pytest.raises(ValueError, match="repeats the id 'a' of line 1"):
        load_suite(write(tmp_path / "twice.jsonl", row, row))
    with pytest.raises(ValueError, match="holds no prompt"):
        load_suite(write(tmp_path / "empty.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        load_suite(tmp_path / "latin.jsonl")
