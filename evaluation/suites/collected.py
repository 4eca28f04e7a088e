"""Rows of collected prompts: lines from many sets in one form, with `set`, `category`, `prompt` and `label`."""

from typing import Any

from evaluation.suite import Prompt
from evaluation.suites.rows import Row, RowError, prompt, text

BORDERLINE = ("xstest", "jbb_benign", "or_bench", "orbench")
"""Beginnings of the names of sets whose benign prompts look harmful."""


def is_collected(row: Any) -> bool:
    """Whether a decoded line is of this form."""
    return isinstance(row, dict) and {"set", "label", "prompt"} <= row.keys()


def from_collected(row: Row, id: str) -> Prompt | None:
    """A prompt of this form, its kind by label and set; None for a template, which asks for nothing by itself.

    Keys beyond those of `is_collected`: id, category, family, goal, answer; and for a task of code test and entry_point. Its
    answer, the body of the function, is told as a model would tell it. A benign row of GSM8K or with unit tests is a task;
    another's answer is one possible answer and checks nothing.
    """
    label, source = str(row["label"]), str(row["set"])
    number, asked = str(row.get("id") or id), text(row, "prompt")
    known: dict[str, Any] = {key: row[key] for key in ("split", "family") if isinstance(row.get(key), str)}
    known["topic"] = row["category"] if isinstance(row.get("category"), str) else None
    if label in ("jailbreak_template", "adversarial_suffix"):
        return None
    if label == "harmful":
        return prompt("harmful", number, asked, action=str(row.get("goal") or asked), **known)
    if label != "benign":
        raise RowError(f"has the label {label!r}, and not 'harmful' or 'benign',")
    if isinstance(row.get("test"), str):
        check = {"kind": "unit_tests", "prompt": asked, "test": row["test"], "entry_point": text(row, "entry_point")}
        whole = f"Complete this Python function. Reply with the whole function in one code block.\n\n{asked}"
        right = {"answer": f"```python\n{asked}{row['answer']}```"} if isinstance(row.get("answer"), str) else {}
        return prompt("task", number, whole, check=check, **right, **known)
    if source == "gsm8k":
        return prompt("task", number, asked, answer=str(row["answer"]), check={"kind": "number"}, **known)
    if source.startswith(BORDERLINE):
        return prompt("borderline", number, asked, **known)
    return prompt("benign", number, asked, **known)
