"""The figures of a campaign as rows of text, for a page, a pull request and a console alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from evaluation.statistics import Figure

DASH = "–"
Scores = Mapping[str, Any]
"""What `scorecard()` returns; any part may be missing, any number None."""


class Value(NamedTuple):
    """A number and, where there is one, its interval, as text."""

    text: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}".strip()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head; a name in the first column, numbers in the others."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Value]]

    def markdown(self) -> str:
        lines = [self.head, ["---", *["---:"] * (len(self.head) - 1)], *self.rows]
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in ([_plain(str(cell)) for cell in line] for line in lines))
        return f"### {self.title}\n\n{body}\n"


def known(figure: Any) -> Figure | None:
    """The figure where anything was observed; an end of the interval that is unknown lies as far out as it can."""
    if not isinstance(figure, Mapping) or not figure.get("n") or not _finite(figure.get("estimate")):
        return None
    low, high = figure.get("low"), figure.get("high")
    return Figure(figure["estimate"], low if _finite(low) else 0.0, high if _finite(high) else 1.0, figure["n"])


def percent(figure: Any) -> Value:
    one = known(figure)
    return Value(f"{100 * one.estimate:.1f}%", f"[{100 * one.low:.1f}, {100 * one.high:.1f}]") if one else Value(DASH)


def points(figure: Any) -> Value:
    """A change, in percentage points."""
    one = known(figure)
    if not one:
        return Value(DASH)
    estimate, low, high = (round(100 * end, 1) + 0.0 for end in (one.estimate, one.low, one.high))  # no -0.0
    return Value(f"{estimate:+.1f}", f"[{low:+.1f}, {high:+.1f}]")


def area(figure: Any) -> Value:
    one = known(figure)
    return Value(f"{one.estimate:.3f}", f"[{one.low:.3f}, {one.high:.3f}]") if one else Value(DASH)


def number(value: Any, places: int = 0) -> str:
    return f"{value:,.{places}f}" if _finite(value) else DASH


def observed(figure: Any) -> str:
    return number((figure or {}).get("n"))


def ranked(scores: Scores) -> list[tuple[str, Mapping[str, Any]]]:
    """The attacks, those that reach most first, those nothing is known of last."""

    def rank(item: tuple[str, Mapping[str, Any]]) -> tuple[float, str]:
        asr = known(item[1].get("asr"))
        return (-asr.estimate if asr else 1.0), item[0]

    return sorted((scores.get("attacks") or {}).items(), key=rank)


def mean_dsr(scores: Scores) -> float | None:
    """Mean over attacks, each counting alike."""
    found = [figure.estimate for _, one in ranked(scores) if (figure := known(one.get("dsr")))]
    return sum(found) / len(found) if found else None


def headline(scores: Scores) -> Table:
    figures = {
        "goals defended": scores.get("defended"),
        "over-refusal": scores.get("over_refusal_of_all"),
        "utility": scores.get("utility"),
    }
    return Table("In short", ("", "share", "n"), [(name, percent(one), observed(one)) for name, one in figures.items()])


def attacks(scores: Scores) -> Table:
    rows = [
        (name, percent(one.get("asr")), percent(one.get("dsr")), number(one.get("queries"), 1), observed(one.get("asr")))
        for name, one in ranked(scores)
    ]
    return Table("Attacks", ("attack", "ASR", "DSR", "queries", "n"), rows)


def harmless(scores: Scores) -> dict[str, Any]:
    """Name -> figure of the outcomes of harmless prompts, and of garbled answers."""
    classes = {f"refused: {name}": figure for name, figure in (scores.get("over_refusal") or {}).items()}
    rest = {"tasks answered": scores.get("utility"), "garbled": scores.get("garbled")}
    return {**classes, **{name: figure for name, figure in rest.items() if figure}}


def harmless_prompts(scores: Scores) -> Table:
    rows = [(name, percent(figure), observed(figure)) for name, figure in harmless(scores).items()]
    return Table("Harmless prompts", ("", "share", "n"), rows)


def detector(scores: Scores) -> Table:
    found = ((name, one.get("auroc")) for name, one in (scores.get("detector") or {}).items())
    return Table("Detector", ("signal", "AUROC", "n"), [(name, area(one), observed(one)) for name, one in found])


def guard(scores: Scores) -> Table:
    """A row for each kind of prompt, a column for each action that was taken at all."""
    groups: Mapping[str, Mapping[str, int]] = scores.get("guard") or {}
    actions = acted(scores)
    rows = [(name, *(number(counts.get(action, 0)) for action in actions)) for name, counts in groups.items()]
    return Table("What the guard did", ("prompts", *actions), rows)


def acted(scores: Scores) -> list[str]:
    """The actions of the guard, doing nothing first."""
    names = {action for counts in (scores.get("guard") or {}).values() for action in counts}
    return sorted(names, key=lambda name: (name != "none", name))


def cost(scores: Scores) -> Table:
    tokens = scores.get("tokens") or {}
    rows = {
        "cases": scores.get("cases"),
        "of them failed": scores.get("failed"),
        "of them undecided": scores.get("undecided") or None,
        "of them refused by a content filter": sum((scores.get("filtered") or {}).values()) or None,
        "queries to the target": scores.get("queries"),
        "tokens read by the target": tokens.get("target_prompt"),
        "tokens written by the target": tokens.get("target_response"),
        "tokens read by other models": tokens.get("others_prompt"),
        "tokens written by other models": tokens.get("others_response"),
    }
    return Table("Cost", ("", "count"), [(name, number(value)) for name, value in rows.items() if value is not None])


def differences(changes: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[tuple[str | Value, ...]] = [
        (
            str(row["name"]),
            *(f"{100 * row[side]:.1f}%" if _finite(row.get(side)) else DASH for side in ("before", "after")),
            points(row.get("change")),
            number(row.get("gained")),
            number(row.get("lost")),
            chance(row.get("p")),
        )
        for row in worst_first(changes)
    ]
    return Table("Changes", ("", "before", "after", "change", "gained", "lost", "p"), rows)


def worst_first(changes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of `differences()` by their change, those of which nothing is known last."""

    def rank(row: Mapping[str, Any]) -> tuple[float, str]:
        change = known(row.get("change"))
        return (change.estimate if change else 1.0), str(row["name"])

    return sorted(changes, key=rank)


def chance(p: Any) -> str:
    if not _finite(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def compared(scores: Mapping[str, Scores]) -> Table:
    """A row for each campaign."""
    rows = []
    for name, one in scores.items():
        dsr = mean_dsr(one)
        figures = (percent(one.get("defended")), percent(one.get("over_refusal_of_all")), percent(one.get("utility")))
        rows.append((name, *figures, DASH if dsr is None else f"{100 * dsr:.1f}%", number(len(ranked(one)))))
    return Table("Beside others", ("", "goals defended", "over-refusal", "utility", "mean DSR", "attacks"), rows)


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else, in one line."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
