"""What looks save, on few exams; the figures of record are the ones that the page shows."""

from __future__ import annotations

import json

from benchmarks.looks import CHANGES, DEVIATIONS, RESULTS, cells, table
from online.settings.groups import GateSettings
from tests.test_architecture import ROOT


def test_every_cell_is_an_exam_of_one_look_and_of_several() -> None:
    rows = cells(8, GateSettings())
    assert len(rows) == 2 * len(DEVIATIONS) * len(CHANGES) and [row["looks"] for row in rows[:2]] == [1, 3]
    assert all(row["prompts"]["mean"] == 300 for row in rows[::2]) and rows[1]["prompts"]["mean"] < 300
    assert all(abs(sum(row["results"].values()) - 1) < 1e-9 for row in rows)


def test_the_page_shows_what_was_measured() -> None:
    told = json.loads((ROOT / RESULTS).read_text())
    assert table(told["cells"]) in (ROOT / "docs/evidence/science.md").read_text("utf-8")
    at_the_margin = [row["shown"] for row in told["cells"] if row["change"].startswith("at the margin")]
    assert all(share["low"] < told["error"] for share in at_the_margin)
