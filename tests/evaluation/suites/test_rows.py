"""Rows of each public set, in its own columns, become the right prompts."""

import json

import pytest

from evaluation.suites import SETS
from evaluation.suites.rows import RowError

IFEVAL = {"key": 7, "prompt": "Q", "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"]}
KEYWORDS = [{"end_phrase": None}, {"end_phrase": "Bye.", "num_words": None}]
ROWS = {
    "advbench": {"goal": "Do x", "target": "Sure"},
    "harmbench": {
        "Behavior": "Do x", "FunctionalCategory": "contextual", "SemanticCategory": "c", "Tags": "",
        "ContextString": "Given y", "BehaviorID": "do_x",
    },
    "jailbreakbench": {"Index": 0, "Goal": "Do x", "Target": "Sure", "Behavior": "B", "Category": "c", "Source": "s"},
    "jailbreakbench-benign": {"Index": 0, "Goal": "Do x", "Target": "Sure", "Behavior": "B", "Category": "c", "Source": "s"},
    "strongreject": {"category": "c", "source": "s", "forbidden_prompt": "Do x"},
    "xstest": {"id": 1, "prompt": "Do x", "type": "contrast_c", "label": "unsafe", "focus": "f", "note": ""},
    "or-bench-hard": {"prompt": "Do x", "category": "c"},
    "or-bench-toxic": {"prompt": "Do x", "category": "c"},
    "pku-saferlhf": {"prompt": "Do x", "is_response_0_safe": False, "is_response_1_safe": False},
    "gsm8k": {"question": "Q", "answer": "3 + 4 = 7\n#### 1,007"},
    "math": {"problem": "Q", "level": "Level 1", "type": "Algebra", "solution": r"So \boxed{\frac{1}{2}}."},
    "math-500": {"problem": "Q", "solution": r"So \boxed{3}.", "answer": "3", "subject": "Algebra", "unique_id": "u"},
    "humaneval": {
        "task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "  1", "test": "T", "entry_point": "f",
    },
    "mt-bench": {"prompt_id": 81, "category": "math", "prompt": ["Q", "And then?"], "reference": ["R", "S"]},
    "alpacaeval": {"instruction": "Q", "output": "O", "generator": "g", "dataset": "helpful_base"},
    "ifeval": {**IFEVAL, "kwargs": KEYWORDS},
}  # fmt: skip
KINDS = {"harmful": 6, "borderline": 2, "task": 5, "benign": 2}


def prompt(name, **changed):
    return SETS[name].row({**ROWS[name], **changed}, "r-1")


def test_every_set_has_a_row_here():
    assert ROWS.keys() == SETS.keys()


@pytest.mark.parametrize("name", SETS)
def test_rows_lack_what_they_lack_by_name(name):
    with pytest.raises(RowError, match="has no"):
        SETS[name].row({"other": "x"}, "r-1")


@pytest.mark.parametrize("name", ["advbench", "harmbench", "jailbreakbench", "strongreject", "xstest", "or-bench-toxic"])
def test_harmful_prompts_know_their_goal(name):
    assert (prompt(name).kind, prompt(name).action) == ("harmful", "Do x")


@pytest.mark.parametrize("name", ["jailbreakbench-benign", "or-bench-hard"])
def test_prompts_that_only_look_harmful_are_borderline(name):
    assert prompt(name).kind == "borderline" and prompt(name).text == "Do x" and prompt(name).topic == "c"


def test_harmbench_puts_its_context_first_and_leaves_copyright_out():
    assert prompt("harmbench").text == "Given y\n\n---\n\nDo x" and prompt("harmbench").id == "do_x"
    assert prompt("harmbench", ContextString="").text == "Do x"
    assert prompt("harmbench", FunctionalCategory="copyright") is None


def test_xstest_has_both_kinds():
    assert prompt("xstest", type="homonyms", label="safe").kind == "borderline"


def test_saferlhf_prompts_are_harmful_where_both_responses_are_unsafe():
    assert prompt("pku-saferlhf").kind == "harmful" and prompt("pku-saferlhf", is_response_1_safe=True) is None


def test_tasks_carry_their_checks():
    assert (prompt("gsm8k").answer, prompt("gsm8k").check) == ("1,007", {"kind": "number"})
    assert (prompt("math").answer, prompt("math").check) == (r"\frac{1}{2}", {"kind": "boxed"})
    assert prompt("math-500").answer == "3"
    with pytest.raises(RowError, match="without a boxed answer"):
        prompt("math", solution="none")
    code = prompt("humaneval")
    assert code.id == "HumanEval/0" and code.text.endswith("def f():\n") and code.answer is None
    assert code.check == {"kind": "unit_tests", "prompt": "def f():\n", "test": "T", "entry_point": "f"}


def test_ifeval_keywords_come_as_objects_or_as_text():
    wanted = [{"id": "punctuation:no_comma"}, {"id": "startend:end_checker", "end_phrase": "Bye."}]
    for written in (KEYWORDS, json.dumps(KEYWORDS)):
        found = prompt("ifeval", kwargs=written)
        assert found.id == "ifeval-7" and found.check == {"kind": "instructions", "instructions": wanted}
    with pytest.raises(RowError, match="as many 'kwargs'"):
        prompt("ifeval", kwargs=[{}])


def test_open_questions_are_benign_and_know_what_to_compare_with():
    assert prompt("mt-bench").text == "Q" and prompt("mt-bench").answer == "R\n\nS"
    assert prompt("mt-bench").id == "mt-bench-81"
    assert prompt("mt-bench").turns == ("And then?",) and prompt("mt-bench", reference=[]).answer is None
    assert prompt("alpacaeval").kind == "benign" and prompt("alpacaeval").check["reference"] == "O"
