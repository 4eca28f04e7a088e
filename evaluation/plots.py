"""Drawings of shares, as elements of a page: they take their colours from its style, and the rows of a table their width.

All lengths along a row are percentages of it, so a row is as wide as the window lets it, while its dots stay round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from evaluation.html import Html
from evaluation.statistics import Figure

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 420, 30, 408, 26, 286
"""Of a plot of two shares: its width, and where its frame lies in it."""
NAMED = 620
"""Width of one with names beside it."""
GAP = 16.0
"""Between the names beside points."""
LONGEST = 24


class Mark(NamedTuple):
    """A share on a row: `look` is a class of the page's style."""

    look: str
    label: str
    figure: Figure | None


class Point(NamedTuple):
    """A campaign between two shares."""

    name: str
    x: Figure
    y: Figure
    own: bool = False


def dots(*marks: Mark) -> Html:
    """Shares with their intervals, one under the other, on one row."""
    drawn, told = [], []
    for index, (look, label, figure) in enumerate(marks, start=1):
        if figure is None:
            continue
        height = f"{100 * index / (len(marks) + 1):.0f}%"
        drawn.append(
            f'<g class="{look}"><line x1="{_at(figure.low)}" x2="{_at(figure.high)}" y1="{height}" y2="{height}"/>'
            f'<circle cx="{_at(figure.estimate)}" cy="{height}" r="4"/></g>'
        )
        told.append(f"{label} {100 * figure.estimate:.1f}% [{100 * figure.low:.1f}, {100 * figure.high:.1f}]")
    return _row("; ".join(told) or "nothing observed", drawn)


def dumbbell(before: float, after: float, change: Figure) -> Html:
    """From before to after, over the interval in which the change may lie; its look says whether that leaves out nought."""
    look = "better" if change.low > 0 else "worse" if change.high < 0 else "same"
    low, high = (min(1.0, max(0.0, before + end)) for end in (change.low, change.high))
    drawn = (
        f'<g class="{look}"><rect class="may" x="{_at(low)}" width="{_at(high - low)}" y="20%" height="60%" rx="3"/>'
        f'<line x1="{_at(before)}" x2="{_at(after)}" y1="50%" y2="50%"/>'
        f'<circle class="hollow" cx="{_at(before)}" cy="50%" r="4"/><circle cx="{_at(after)}" cy="50%" r="4.5"/></g>'
    )
    return _row(f"{100 * before:.1f}% before, {100 * after:.1f}% after", [drawn])


def stack(counts: Mapping[str, int], looks: Mapping[str, str]) -> Html:
    """Shares of a whole, side by side; `looks` names each one's class and their order."""
    total, start, drawn = sum(counts.values()), 0.0, []
    for name, look in looks.items():
        if count := counts.get(name, 0):
            drawn.append(
                f'<rect class="{look}" x="{_at(start)}" width="{_at(count / total)}" y="20%" height="60%">'
                f"<title>{escape(name)}: {count}</title></rect>"
            )
            start += count / total
    told = ", ".join(f"{counts[name]} {name}" for name in looks if counts.get(name))
    return _row(told or "nothing observed", drawn, "row")


def scale() -> Html:
    """The head of a column of rows."""
    texts = "".join(f'<text x="{at}%" y="70%" text-anchor="middle">{at}</text>' for at in (0, 50, 100))
    return Html(f'<svg class="row" aria-hidden="true">{texts}</svg>')


def curves(of: Mapping[str, Sequence[Sequence[float]]]) -> Html:
    """ROC curves: (false positive rate, true positive rate) along each."""
    drawn = [f'<line class="chance" x1="{LEFT}" y1="{BOTTOM}" x2="{RIGHT}" y2="{TOP}"/>']
    for index, (name, curve) in enumerate(of.items()):
        path = " ".join(f"{_across(x, 1):.1f},{_up(y):.1f}" for x, y in curve)
        drawn.append(f'<polyline class="kind{index % 5}" points="{path}"><title>{escape(name)}</title></polyline>')
    return _plot(
        f"ROC of {' and '.join(of)}", "% of compliances found", "% of harmless answers mistaken for one", drawn, 1.0
    )


def scatter(points: Sequence[Point], across: str, up: str) -> Html:
    """Campaigns by two shares, with their intervals, and their names in a column beside, in the order of their heights."""
    limit = min(1.0, -(-max(point.x.high for point in points) * 100 // 10) / 10) or 0.1
    leads, crosses = [], []
    placed = sorted(points, key=lambda point: (-point.y.estimate, -point.x.estimate, point.name))
    for point, height in zip(placed, _apart([_up(point.y.estimate) for point in placed]), strict=True):
        x, y, look = _across(point.x.estimate, limit), _up(point.y.estimate), "own" if point.own else "peer"
        short = point.name if len(point.name) <= LONGEST else point.name[: LONGEST - 1] + "…"
        leads.append(
            f'<polyline class="lead" points="{x:.1f},{y:.1f} {RIGHT + 6},{height:.1f} {RIGHT + 12},{height:.1f}"/>'
            f'<text class="name {look}" x="{RIGHT + 16}" y="{height + 4:.1f}">{escape(short)}</text>'
        )
        crosses.append(
            f'<g class="{look}"><line x1="{_across(point.x.low, limit):.1f}" x2="{_across(point.x.high, limit):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/><line x1="{x:.1f}" x2="{x:.1f}" y1="{_up(point.y.low):.1f}" '
            f'y2="{_up(point.y.high):.1f}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/></g>'
        )
    title = f"{up} over {across}: {', '.join(point.name for point in placed)}"
    return _plot(title, up, across, leads + crosses, limit, NAMED)


def _apart(heights: Sequence[float]) -> list[float]:
    """Rising heights, none nearer to the one before than a name is high, and within the frame while there is room."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + GAP) if placed else max(height, TOP + 4))
    lowest: float = BOTTOM - 4
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], lowest)
        lowest = placed[index] - GAP
    return placed


def _plot(title: str, up: str, across: str, drawn: Sequence[str], limit: float, width: int = WIDTH) -> Html:
    """A frame of two shares, from 0 to 1 upwards and to `limit` across."""
    ticks = []
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _across(part, 1), _up(part)
        ticks.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
            f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{100 * part * limit:g}</text>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * part:g}</text>'
        )
    axes = (
        f'<text x="0" y="12">{escape(up)}</text>'
        f'<text x="{RIGHT}" y="{BOTTOM + 34}" text-anchor="end">{escape(across)}</text>'
    )
    inside = "".join((*ticks, *drawn, axes))
    opening = f'<svg class="plot{" named" * (width > WIDTH)}" viewBox="0 0 {width} {BOTTOM + 40}" role="img">'
    return Html(f"{opening}<title>{escape(title)}</title>{inside}</svg>")


def _row(title: str, drawn: Sequence[str], look: str = "row dots") -> Html:
    return Html(f'<svg class="{look}" role="img"><title>{escape(title)}</title>{"".join(drawn)}</svg>')


def _at(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def _across(share: float, limit: float) -> float:
    return LEFT + (RIGHT - LEFT) * min(1.0, share / limit)


def _up(share: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * share
