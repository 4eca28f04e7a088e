"""Draw the course of an update on a real model: `python -m docs.course` (`make docs` does it first)."""

from __future__ import annotations

import json
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from docs.defence import DOCS, STYLE
from evaluation.svg import standalone

RESULTS, PICTURE = DOCS.parent / "benchmarks/results/real-course.json", DOCS / "images/course.svg"
PANELS = {
    "harmful prompts": {"bare": ("bare", "#0f766e"), "jailbroken": ("jailbroken, families never seen", "#1f5fbf")},
    "harmless prompts": {
        "xstest_safe": ("XSTest's safe", "#bc4c00"),
        "jbb_benign": ("JailbreakBench's benign", "#8250df"),
        "wrapped": ("wrapped", "#57606a"),
        "plain": ("plain", "#1f883d"),
    },
}
"""Title of a panel -> group of prompts -> its label and colour."""


def draw(course: list[dict[str, Any]]) -> Figure:
    """Two panels: mean refusal mass over steps, with its 95% interval over goals."""
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    steps = [one["step"] for one in course]
    for column, (title, lines) in enumerate(PANELS.items(), 1):
        axes = figure.add_subplot(1, 2, column)
        for name, (label, colour) in lines.items():
            estimate, low, high = ([100 * one["masses"][name][key] for one in course] for key in ("estimate", "low", "high"))
            axes.plot(steps, estimate, "o-", color=colour, label=label, markersize=4)
            axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set(title=title, ylim=(0, 100), xlabel="step", xticks=steps)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
        if column == 1:
            axes.set_ylabel("expected refusals, %")
    return figure


def svg() -> str:
    """The picture; the same results give the same bytes."""
    with rc_context(STYLE):
        return standalone(draw(json.loads(RESULTS.read_text("utf-8"))["course"]))


if __name__ == "__main__":
    PICTURE.write_text(svg(), "utf-8")
