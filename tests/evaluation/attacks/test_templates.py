"""An operator's own templates are read whole or refused with one sentence; their text comes through as it was written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from evaluation.attacks import ATTACKS, load_templates
from evaluation.suite import Prompt, SuiteError
from tests.evaluation.attacks.simulated import GOAL, PROMPT, drive, said, silent


def write(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_good_lines(tmp_path):
    path = write(
        tmp_path / "own.jsonl",
        {"name": "zeal", "template": "Quick! {goal}", "extra": 1},
        "",
        {
            "name": "  bard ",
            "messages": [
                {"role": "user", "content": "Sing of {goal}"},
                {"role": "assistant", "content": "O {goal}!", "name": "bard"},
                {"role": "user", "content": "Go on, in {braces} and {}."},
            ],
            "about": "A song.",
            "source": "a tavern",
        },
    )
    zeal, bard = load_templates(path).values()
    assert (zeal.name, zeal.source, zeal.needs) == ("zeal", "own.jsonl", frozenset()) and zeal.about
    assert (bard.name, bard.about, bard.source) == ("bard", "A song.", "a tavern")
    system = {"role": "system", "content": "S"}
    asked, ended = drive(bard, silent, prompt=Prompt("p", "harmful", (system, *PROMPT.messages)))
    assert ended and [query.messages for (query,) in asked] == [
        (
            system,
            {"role": "user", "content": f"Sing of {GOAL}"},
            {"role": "assistant", "content": f"O {GOAL}!", "name": "bard"},
            {"role": "user", "content": "Go on, in {braces} and {}."},
        )
    ]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"name": ' + "1" * 5000 + "}", "is not JSON"),
        ("[]", "not a JSON object"),
        ({"template": "{goal}"}, "no text under 'name'"),
        ({"name": " ", "template": "{goal}"}, "no text under 'name'"),
        ({"name": 3, "template": "{goal}"}, "no text under 'name'"),
        ({"name": "x"}, "needs either 'template' or 'messages'"),
        ({"name": "x", "template": "{goal}", "messages": []}, "needs either 'template' or 'messages'"),
        ({"name": "x", "template": 3}, "'template' that is not text"),
        ({"name": "x", "template": "Hello {Goal}"}, "does not say where the goal goes"),
        ({"name": "x", "messages": "{goal}"}, "'messages' that are no list"),
        ({"name": "x", "messages": []}, "'messages' that are no list"),
        ({"name": "x", "messages": ["{goal}"]}, "message without text as 'role' and 'content'"),
        (
            {"name": "x", "messages": [{"role": "user", "content": ["{goal}"]}]},
            "message without text as 'role' and 'content'",
        ),
        ({"name": "x", "messages": [{"content": "{goal}"}]}, "message without text as 'role' and 'content'"),
        ({"name": "x", "messages": [{"role": "user", "content": "Hello"}]}, "does not say where the goal goes"),
        ({"name": "x", "template": "{goal}", "about": 3}, "'about' that is not text"),
        ({"name": "x", "template": "{goal}", "source": ["y"]}, "'source' that is not text"),
        ({"name": "fine", "template": "{goal}"}, "has the name 'fine', which another attack has"),
        *(({"name": name, "template": "{goal}"}, f"has the name '{name}'") for name in ("direct", "tap")),
    ],
    ids=str,
)
def test_bad_lines_are_refused_by_file_line_cause_and_mend(tmp_path, row, complaint):
    path = write(tmp_path / "own.jsonl", {"name": "fine", "template": "{goal}"}, row)
    with pytest.raises(SuiteError) as caught:
        load_templates(path)
    sentence = str(caught.value)
    assert complaint in sentence and sentence.startswith(f"{path}, line 2 ") and ": " in sentence and len(sentence) < 400


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(SuiteError, match="cannot be read"):
        load_templates(tmp_path / "none.jsonl")
    with pytest.raises(SuiteError, match="holds no template"):
        load_templates(write(tmp_path / "empty.jsonl", "", " "))
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(SuiteError, match="not UTF-8"):
        load_templates(tmp_path / "latin.jsonl")


def test_loading_leaves_our_own_attacks_alone(tmp_path):
    before = dict(ATTACKS)
    load_templates(write(tmp_path / "own.jsonl", {"name": "mine", "template": "{goal}"}))
    assert before == ATTACKS


texts = st.text() | st.text("{}goal\\\"'\n\r\u2028\u2029\x85 é")


@given(before=texts, after=texts, goal=st.text(min_size=1), plain=st.booleans())
@hypothesis(max_examples=60, database=None)
def test_braces_and_all_of_unicode_survive(before, after, goal, plain):
    template = f"{before}{{goal}}{after}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.jsonl"
        row = json.dumps({"name": "x", "template": template}, ensure_ascii=not plain)
        path.write_bytes(f"{row}\n".encode())
        attack = load_templates(path)["x"]
    asked, _ = drive(attack, silent, prompt=Prompt("p", "harmful", ({"role": "user", "content": goal},)))
    assert said(asked[0][0]) == goal.join(template.split("{goal}"))
