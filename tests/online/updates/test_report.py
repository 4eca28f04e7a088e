"""The page of an update: whole, self-contained, and there however the update ended."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evaluation import Figure
from online.updates.record import UpdateOutcome
from online.updates.report import PANELS, changes, page, write_report

SHARE = Figure(0.25, 0.2, 0.3, 40).to_dict()
CLAIM = {"change": SHARE, "allowed": 0.01, "had": 40, "needed": 30, "power": 0.9, "result": "contradicted", "unit": "share"}
STORY = {
    "settings": {"preset": "anchored", "suite": None},
    "gap": {"auroc": SHARE, "mean_gap": float("nan"), "refusals": 4, "compliances": 5},
    "bands": {"high": 3, "grey": 2, "low": 1},
    "history": [{"step": i, **{m: i / 7 for lines in PANELS.values() for m in lines}} for i in range(4)],
    "gate": {
        "decision": "rejected",
        "reasons": [],
        "figures": {who: {"sampled": {"utility": SHARE}, "mean_length": 9.5} for who in ("base", "candidate")},
        "power": {"defence against <base>": CLAIM, "utility": {**CLAIM, "result": "shown"}},
    },
}


def outcome(status: str = "rejected", *reasons: str) -> dict:
    return asdict(UpdateOutcome("20260101T000000-abcdef", status, reasons, None, 12.3))


class Reader(HTMLParser):
    """Whether elements close as they opened, and whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.fetched = [], []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in ("meta", "li", "br"):
            self.open.append(tag)
        fetching = {"src", "href", "xlink:href", "action"}
        self.fetched += [value for name, value in attrs if name in fetching and not value.startswith("#")]

    def handle_endtag(self, tag) -> None:
        if tag != "li":
            assert self.open.pop() == tag


def test_all_there_is_to_tell_is_on_one_page_that_fetches_nothing() -> None:
    html = page(outcome("rejected", "defence <fell>"), STORY)
    reader = Reader()
    reader.feed(html)
    assert not reader.open and not reader.fetched and not re.search(r"@import|url\((?!#)", html)
    shown = [*PANELS, *(label for lines in PANELS.values() for label in lines.values())]
    for text in (
        *shown,
        "defence &lt;fell&gt;",
        "defence against &lt;base&gt;",
        "AUROC 0.250",
        "25.0% [20.0, 30.0]",
        "3 high",
    ):
        assert text in html, text
    assert "<fell>" not in html and html.count("<svg") == len(PANELS) + 1


def test_an_interval_without_ends_leaves_its_estimate_in_the_plot() -> None:
    endless = {**CLAIM, "change": Figure(0.25, -math.inf, math.inf, 1).to_dict()}
    axes = changes({"one": CLAIM, "two": endless}).axes[0]
    assert [round(float(one.lines[0].get_xdata()[0])) for one in axes.containers] == [25, 25]
    assert all(math.isfinite(end) for end in axes.get_xlim())
    assert "<svg" in page(outcome(), {"gate": {**STORY["gate"], "power": {"two": endless}}})


def test_the_same_story_gives_the_same_page() -> None:
    assert page(outcome(), STORY) == page(outcome(), STORY)


@pytest.mark.parametrize("kept", [[], ["settings"], ["settings", "gap"], ["settings", "gap", "bands", "history"]])
def test_an_update_that_ended_early_has_a_page_too(tmp_path: Path, kept: list[str]) -> None:
    write_report(tmp_path, outcome("refused", "No gap."), {name: STORY[name] for name in kept})
    assert "refused" in (tmp_path / "report.html").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert set(json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)) == {"outcome", *kept}


def test_a_metric_that_was_not_noted_leaves_no_empty_panel() -> None:
    html = page(outcome(), {"history": [{"step": 0, "reward": -1.0}]})
    assert "Reward" in html and "Length, tokens" not in html
