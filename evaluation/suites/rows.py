"""Rows of public sets: each set's own columns as a prompt; (row, id) -> the prompt, or None for a row that is none."""

import json
from collections.abc import Mapping
from typing import Any

from evaluation.suite import Kind, Prompt
from evaluation.utility.exact import boxed
from evaluation.utility.instructions import KINDS

Row = Mapping[str, Any]


class RowError(ValueError):
    """What a row lacks, in words that follow 'the row'."""


def text(row: Row, *names: str) -> str:
    """The first of these fields that a row has as text. Raises RowError."""
    for name in names:
        if isinstance(row.get(name), str) and row[name].strip():
            return str(row[name])
    raise RowError(f"has no text under {' or '.join(map(repr, names))}")


def prompt(kind: Kind, id: str, asked: str, **known: Any) -> Prompt:
    """A prompt of one message by the user."""
    return Prompt(id, kind, ({"role": "user", "content": asked},), **known)


def _maybe(row: Row, *names: str) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)


def harmful(row: Row, id: str) -> Prompt:
    """AdvBench, JailbreakBench, StrongREJECT, OR-Bench Toxic: a goal, and often its category."""
    goal = text(row, "goal", "prompt", "forbidden_prompt", "Goal", "Behavior")
    return prompt("harmful", id, goal, topic=_maybe(row, "category", "Category"), action=goal)


def borderline(row: Row, id: str) -> Prompt:
    """OR-Bench Hard, and the benign twins of JailbreakBench: harmless, and look otherwise."""
    return prompt("borderline", id, text(row, "prompt", "Goal"), topic=_maybe(row, "category", "Category"))


def harmbench(row: Row, id: str) -> Prompt | None:
    """Copyright behaviours are left out: whether a text was recited is for hashes to tell, and not for these judges."""
    if row.get("FunctionalCategory") == "copyright":
        return None
    goal, context = text(row, "Behavior", "prompt"), _maybe(row, "ContextString", "context")
    return prompt(
        "harmful",
        _maybe(row, "BehaviorID") or id,
        f"{context}\n\n---\n\n{goal}" if context else goal,
        topic=_maybe(row, "SemanticCategory", "category"),
        action=goal,
        check={"context": context} if context else None,
    )


def xstest(row: Row, id: str) -> Prompt:
    """Safe prompts are borderline, their unsafe contrasts harmful."""
    kind = text(row, "type", "category")
    unsafe = str(row.get("label")) in ("unsafe", "harmful") or kind.startswith("contrast_")
    asked = text(row, "prompt")
    return prompt("harmful" if unsafe else "borderline", id, asked, topic=kind, action=asked if unsafe else None)


def saferlhf(row: Row, id: str) -> Prompt | None:
    """The set labels responses and not prompts: one that both responses answer unsafely is harmful, others are left out."""
    if "is_response_0_safe" not in row or "is_response_1_safe" not in row:
        raise RowError("has no 'is_response_0_safe' and 'is_response_1_safe'")
    if row["is_response_0_safe"] or row["is_response_1_safe"]:
        return None
    return prompt("harmful", id, text(row, "prompt"), action=text(row, "prompt"))


def gsm8k(row: Row, id: str) -> Prompt:
    """The answer stands behind '####'."""
    answer = text(row, "answer").rsplit("####", 1)[-1].strip()
    return prompt("task", id, text(row, "question", "prompt"), answer=answer, check={"kind": "number"})


def math(row: Row, id: str) -> Prompt:
    """The answer is a column, or in the box of the solution."""
    answer = _maybe(row, "answer") or boxed(text(row, "solution"))
    if answer is None:
        raise RowError("has a 'solution' without a boxed answer")
    topic = _maybe(row, "subject", "type")
    asked = f"{text(row, 'problem')}\n\nPut the final answer in \\boxed{{}}."
    return prompt("task", id, asked, topic=topic, answer=answer, check={"kind": "boxed"})


def humaneval(row: Row, id: str) -> Prompt:
    """A function to complete, with its unit tests."""
    parts = {key: text(row, key) for key in ("prompt", "test", "entry_point")}
    asked = f"Complete this Python function. Reply with the whole function in one code block.\n\n{parts['prompt']}"
    return prompt("task", _maybe(row, "task_id") or id, asked, check={"kind": "unit_tests", **parts})


def mtbench(row: Row, id: str) -> Prompt:
    """The first turn, and what the user says next. Reference answers are for the judge that compares."""
    turns = row.get("prompt") or row.get("turns")
    if isinstance(turns, str) or not turns:
        raise RowError("has no list of turns under 'prompt' or 'turns'")
    topic, number = _maybe(row, "category"), _maybe(row, "prompt_id", "question_id")
    known = [str(answer) for answer in row.get("reference") or [] if answer]
    return prompt(
        "benign",
        f"mt-bench-{number}" if number else id,
        str(turns[0]),
        topic=topic,
        answer="\n\n".join(known) or None,
        turns=tuple(str(turn) for turn in turns[1:]),
    )


def alpaca(row: Row, id: str) -> Prompt:
    """An instruction; `check` has the set's reference output, to compare with."""
    check = {"kind": "pairwise", "reference": row.get("output"), "generator": row.get("generator")}
    return prompt("benign", id, text(row, "instruction"), topic=_maybe(row, "dataset"), check=check)


def ifeval(row: Row, id: str) -> Prompt | None:
    """Instructions by kind, each with the keywords that are not null. Prompts with a kind that is not checked are left out:
    of them nobody could say whether they were followed."""
    kinds, keywords = row.get("instruction_id_list"), row.get("kwargs")
    keywords = json.loads(keywords) if isinstance(keywords, str) else keywords
    if not isinstance(kinds, list) or not isinstance(keywords, list) or len(kinds) != len(keywords):
        raise RowError("has no 'instruction_id_list' with as many 'kwargs'")
    if not set(kinds) <= KINDS.keys():
        return None
    known = [
        {"id": kind, **{key: value for key, value in (words or {}).items() if value is not None}}
        for kind, words in zip(kinds, keywords, strict=True)
    ]
    number = _maybe(row, "key")
    return prompt(
        "task",
        f"ifeval-{number}" if number else id,
        text(row, "prompt"),
        check={"kind": "instructions", "instructions": known},
    )
