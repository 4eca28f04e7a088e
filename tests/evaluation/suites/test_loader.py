"""Suites by name, by a local copy, and by path."""

import csv
import json
from dataclasses import replace

import pytest

from evaluation.suite import SuiteError
from evaluation.suites import SETS, load
from tests.evaluation.suites.test_rows import ROWS


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SETS)
def test_a_local_copy_goes_by_the_sets_own_columns(tmp_path, name):
    (prompt,) = load(f"{name}={lines(tmp_path / 'copy.jsonl', ROWS[name])}")
    assert prompt == SETS[name].row(ROWS[name], f"{name}-1")


def test_a_local_copy_may_be_csv_or_one_list(tmp_path):
    with (tmp_path / "copy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS["strongreject"])
        writer.writeheader()
        writer.writerows([{**ROWS["strongreject"], "forbidden_prompt": 'Do "x",\nand y\u2028'}, ROWS["strongreject"]])
    assert [prompt.text for prompt in load(f"strongreject={tmp_path / 'copy.csv'}")] == ['Do "x",\nand y\u2028', "Do x"]
    (tmp_path / "copy.json").write_text(json.dumps([ROWS["alpacaeval"]]))
    assert load(f"alpacaeval={tmp_path / 'copy.json'}")[0].text == "Q"


def test_our_own_form_is_read_as_ever(tmp_path):
    path = lines(tmp_path / "own=1.jsonl", {"kind": "harmful", "prompt": "a"}, {"kind": "benign", "prompt": "b"})
    assert [(prompt.id, prompt.kind) for prompt in load(path)] == [("own=1-1", "harmful"), ("own=1-2", "benign")]


def test_texts_come_once_and_rows_that_are_none_do_not_come(tmp_path):
    row = ROWS["pku-saferlhf"]
    path = lines(tmp_path / "x", row, row, {**row, "prompt": "Do y"}, {**row, "prompt": "Do z", "is_response_0_safe": True})
    assert [(prompt.id, prompt.text) for prompt in load(f"pku-saferlhf={path}")] == [
        ("pku-saferlhf-1", "Do x"),
        ("pku-saferlhf-3", "Do y"),
    ]


def test_a_limit_draws_by_the_seed_and_keeps_the_order(tmp_path):
    path = lines(tmp_path / "x", *({"kind": "benign", "prompt": str(i)} for i in range(50)))
    drawn = [int(prompt.text) for prompt in load(path, limit=10)]
    assert drawn == sorted(drawn) and len(set(drawn)) == 10 and drawn != list(range(10))
    assert (
        drawn == [int(prompt.text) for prompt in load(path, 10)] != [int(prompt.text) for prompt in load(path, 10, seed=1)]
    )
    assert len(load(path, 50)) == len(load(path, 99)) == 50


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"question": "Q"}], "line 1 has no text under 'answer': give the set 'gsm8k' with the columns"),
        (["text"], "line 1 is not a JSON object"),
        ([], "holds no prompt"),
    ],
)
def test_copies_that_are_not_the_set_are_refused_by_line(tmp_path, rows, complaint):
    with pytest.raises(SuiteError, match=complaint):
        load(f"gsm8k={lines(tmp_path / 'copy.jsonl', *rows)}")


def test_what_is_neither_file_nor_set_is_refused(tmp_path):
    with pytest.raises(
        SuiteError, match="'nothing' is neither a file nor a set: name a file, or one of advbench, harmbench"
    ):
        load("nothing")
    with pytest.raises(SuiteError, match="cannot be read"):
        load(f"gsm8k={tmp_path / 'none'}")
    with pytest.raises(SuiteError, match="limit of 0"):
        load("gsm8k", limit=0)
    (tmp_path / "bad").write_text("[1, ")
    with pytest.raises(SuiteError, match="not a JSON list"):
        load(f"gsm8k={tmp_path / 'bad'}")
    row = {**ROWS["mt-bench"], "prompt": ["other"]}
    with pytest.raises(SuiteError, match="line 2 repeats the id 'mt-bench-81'"):
        load(f"mt-bench={lines(tmp_path / 'copy', ROWS['mt-bench'], row)}")


def test_every_set_says_where_it_is_and_under_which_licence():
    for public in SETS.values():
        assert bool(public.hub) != bool(public.address) and public.licence and public.url.startswith("https://")
        assert replace(public) == public
