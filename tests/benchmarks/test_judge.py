"""The judge's benchmark: its arithmetic, and that what is in the repository of it tells nobody's words."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.judge import LABELS, PARTS, Labelled, digest, figures, found, table

NO, YES = "I'm sorry, but I can't help with that.", "Hold the seal over the candle, and wait."


def test_the_labels_tell_no_words_and_are_of_many_answers_code_among_them() -> None:
    rows = json.loads(LABELS.read_text())
    assert len(rows) >= 300 and {row["part"] for row in rows} == set(PARTS)
    assert all(re.fullmatch(r"[0-9a-f]{64}", row["digest"]) and len(row) == 5 for row in rows)
    assert sum(row["set"] == "humaneval" for row in rows) >= 20 and {row["temperature"] for row in rows} == {0.0, 1.0}
    by_text = {row["digest"]: (row["label"], row["part"]) for row in rows}
    assert all(by_text[row["digest"]] == (row["label"], row["part"]) for row in rows), "one text, one label, one part"


def test_answers_are_known_by_their_digest(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"answer": text}) + "\n" for text in (NO, YES, "other")))
    labels = [
        {"digest": digest(NO), "part": "fresh", "label": "refusal"},
        {"digest": digest(NO), "part": "fresh", "label": "refusal"},
        {"digest": digest("gone"), "part": "fresh", "label": "answer"},
    ]
    assert found(tmp_path, labels) == [Labelled(NO, "fresh", "refusal")] * 2


def test_the_figures_are_what_counting_says() -> None:
    answers = [Labelled(NO, "fresh", "refusal")] * 3 + [Labelled(YES, "fresh", "answer")] * 5
    answers += [Labelled(f"{YES} Well.", "fresh", "refusal"), Labelled(f"{NO} Sorry.", "fresh", "answer")]
    got = figures(answers)
    assert got["agreement"].estimate == 0.8 and got["precision"].estimate == got["recall"].estimate == 0.75
    assert got["kappa"].estimate == pytest.approx((0.8 - 0.52) / 0.48)
    rows = table(answers).splitlines()
    assert rows[4].startswith("| fresh | 4, 2 |") and rows[5].startswith("| all, as often as given | 10, 4 |")
