"""Plots of a campaign's shares. What stands in the rows of a table is drawn by the template, as wide as its column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from evaluation.html import HUES
from evaluation.statistics import Figure
from evaluation.svg import COLOURS, STYLE

DASHES = ("-", "--", "-.", ":")
"""Of lines, which are told apart without their colours."""
LONGEST = 24
"""Letters of a name beside a point."""
LINE_PT = 12.0
"""Between the names beside points, in points."""


class Point(NamedTuple):
    """A campaign between two shares."""

    name: str
    x: Figure
    y: Figure
    own: bool = False


@rc_context(STYLE)
def curves(of: Mapping[str, Sequence[Sequence[float]]]) -> Canvas:
    """ROC curves: (false positive rate, true positive rate) along each."""
    canvas = Canvas(figsize=(4.6, 3.6), layout="constrained")
    axes: Axes = canvas.add_subplot()
    axes.plot((0, 100), (0, 100), ":", color=COLOURS["faint"], linewidth=1)
    for index, (name, curve) in enumerate(of.items()):
        xs, ys = zip(*((100 * x, 100 * y) for x, y in curve), strict=True)
        axes.plot(xs, ys, DASHES[index % len(DASHES)], color=COLOURS[HUES[index % len(HUES)]], label=name)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="% of harmless answers mistaken for one", ylabel="% of compliances found")
    axes.legend(loc="lower right")
    return canvas


@rc_context(STYLE)
def scatter(points: Sequence[Point], across: str, up: str) -> Canvas:
    """Campaigns by two shares, with their intervals, and their names in a column beside, in the order of their heights."""
    height = max(3.6, 0.7 + LINE_PT / 72 * len(points))
    canvas = Canvas(figsize=(5.8, height))
    axes: Axes = canvas.add_axes((0.1, 0.5 / height, 0.53, 1 - 0.6 / height))
    limit = min(1.0, -(-max(point.x.high for point in points) * 100 // 10) / 10) or 0.1
    axes.set(xlim=(0, 100 * limit), ylim=(0, 100), xlabel=across, ylabel=up)
    placed = sorted(points, key=lambda point: (-point.y.estimate, -point.x.estimate, point.name))
    beside = apart([point.y.estimate for point in placed], LINE_PT / (72 * height - 0.6 * 72))
    for point, level in zip(placed, beside, strict=True):
        colour = COLOURS["purple" if point.own else "faint"]
        at = 100 * min(point.x.estimate, limit), 100 * point.y.estimate
        (left, right), (down, top) = (
            ([100 * (one.estimate - one.low)], [100 * (one.high - one.estimate)]) for one in (point.x, point.y)
        )
        axes.errorbar(*at, xerr=(left, right), yerr=(down, top), fmt="D" if point.own else "o", color=colour, markersize=5)
        axes.annotate(
            shortened(point.name),
            at,
            (1.04, level),
            textcoords="axes fraction",
            parse_math=False,
            verticalalignment="center",
            color=colour,
            weight="bold" if point.own else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": COLOURS["idle"], "linewidth": 0.6, "relpos": (0, 0.5), "shrinkB": 4},
        )
    return canvas


def shortened(name: str) -> str:
    """A name in one line of few letters."""
    line = " ".join(name.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Falling heights between 1 and 0, each at least `gap` under the one before: moved down, or up for lack of room."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - gap) if placed else height)
    lowest = 0.0
    for index in reversed(range(len(placed))):
        placed[index] = max(placed[index], lowest)
        lowest = placed[index] + gap
    return placed
