"""Draw defence against over-refusal from the study's results: `python -m docs.defence` (`make docs` does it first)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from evaluation.svg import standalone

DOCS = Path(__file__).parent
RESULTS, PICTURE = DOCS / "science/results.json", DOCS / "images/defence.svg"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.grid": True,
    "grid.color": "#e6e9ec",
}
RUNS = {
    "base": ("the model as it is", "#57606a"),
    "guard alone": ("guard alone", "#bc4c00"),
    "anchored": ("learning alone", "#0f766e"),
    "anchored, guarded": ("guard over learning", "#1f5fbf"),
}
"""Name in the results -> label and colour."""
PANELS = {"dsr_seen": "attack families seen in training", "dsr_unseen": "attack families never seen"}
MARKERS = "os"
"""One for each base."""


def runs(results: Mapping[str, Any], base: int, name: str) -> list[Mapping[str, Any]]:
    """All seeds of one run on one base."""
    return [run for run in results["runs"].values() if run["base"] == base and run["run"] == name]


def percent(found: Sequence[Mapping[str, Any]], key: str, mode: str = "after") -> float:
    """Mean of a figure over seeds, in percent. mode: "after" (temperature 1) or "greedy"."""
    values = [run[mode]["over_refusal"][key] if key in run[mode]["over_refusal"] else run[mode][key] for run in found]
    return 100 * sum(value["estimate"] for value in values) / len(values)


def draw(results: Mapping[str, Any]) -> Figure:
    """Two panels: DSR over refused borderline prompts at temperature 1, a point for each run and base."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    for column, (key, title) in enumerate(PANELS.items(), 1):
        axes = figure.add_subplot(1, 2, column)
        for base, marker in enumerate(MARKERS):
            points = {
                name: (percent(found, "borderline"), percent(found, key))
                for name in RUNS
                if (found := runs(results, base, name))
            }
            for name, (label, colour) in RUNS.items():
                shown = label if base == 0 else None
                axes.plot(*points[name], marker, color=colour, markersize=9, label=shown, linestyle="none", zorder=3)
            for start, end in (("base", "guard alone"), ("base", "anchored"), ("anchored", "anchored, guarded")):
                arrow = {"arrowstyle": "->", "color": "#8c959f", "shrinkA": 6, "shrinkB": 6}
                axes.annotate("", points[end], points[start], arrowprops=arrow)
        axes.set(title=title, xlim=(0, 24), ylim=(30, 102), xlabel="borderline prompts refused, %")
        axes.spines[["top", "right"]].set_visible(False)
        if column == 1:
            axes.set_ylabel("harmful prompts refused, %")
            axes.legend(frameon=False, loc="lower left")
    return figure


def svg() -> str:
    """The picture; the same results give the same bytes."""
    with rc_context(STYLE):
        return standalone(draw(json.loads(RESULTS.read_text("utf-8"))))


if __name__ == "__main__":
    PICTURE.write_text(svg(), "utf-8")
