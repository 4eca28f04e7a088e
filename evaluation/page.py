"""A campaign as one page for people, as tables for a pull request, and as a few lines for a console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluation import plots, tables
from evaluation.html import HUES, render
from evaluation.statistics import Figure
from evaluation.svg import inline
from evaluation.tables import Scores, known, percent

ACTIONS = {"none": "idle", "halt": "orange", "regenerate": "blue", "route": "green"}
"""Looks of what the guard did; any other action has one of its own."""
WORDS = {
    "goals defended": "of the harmful goals held out against every attack",
    "over-refusal": "of the harmless prompts were refused; less is better",
    "utility": "of the ordinary tasks were answered rightly",
}
LOOKS = {"tasks answered": "good", "garbled": "same"}
"""Looks of the outcomes of harmless prompts; refusals look like harm."""
OWN = "this campaign"


class Mark(NamedTuple):
    """A share on a row; look: a class of the page's style."""

    look: str
    label: str
    figure: Figure | None

    @property
    def told(self) -> str:
        """The share and its interval, in percent."""
        return str(percent(self.figure and self.figure.to_dict()))


class Move(NamedTuple):
    """A share before and after, and where the interval of the change puts the latter."""

    look: str
    before: float
    after: float
    low: float
    high: float


class Part(NamedTuple):
    """A share of a whole, that lies beside the others; start: the sum of those before it."""

    look: str
    name: str
    number: int
    start: float
    share: float


def page(
    title: str,
    about: Mapping[str, str],
    scores: Scores,
    changes: Sequence[Mapping[str, Any]] | None = None,
    peers: Mapping[str, Scores] | None = None,
) -> str:
    """The page: one file, nothing fetched, no text of any prompt.

    `about` says what was asked, by whom it was judged, and the like; `scores` are a `scorecard()`, `changes` the
    `differences()` from an earlier campaign, `peers` the scorecards of others by name.
    """
    beside = {OWN: scores, **peers} if peers else {}
    return render(
        Path(__file__).with_suffix(".html.jinja"),
        title=title,
        about=about,
        failures=list(_failures(scores)),
        cards=_cards(scores),
        compared=tables.compared(beside),
        plot_of_all=_scatter(beside),
        unlike=len({frozenset(one.get("attacks") or ()) for one in beside.values()}) > 1,
        changes=tables.differences(changes or ()),
        moves=[_move(row) for row in tables.worst_first(changes or ())],
        attacks=tables.attacks(scores),
        attack_marks=[
            (Mark("harm", "ASR", known(one.get("asr"))), Mark("good", "DSR", known(one.get("dsr"))))
            for _, one in tables.ranked(scores)
        ],
        harmless=tables.harmless_prompts(scores),
        harmless_marks=[(Mark(LOOKS.get(name, "harm"), name, known(one)),) for name, one in tables.harmless(scores).items()],
        **_detector(scores),
        **_guard(scores),
        cost=tables.cost(scores),
    )


def markdown(
    scores: Scores, changes: Sequence[Mapping[str, Any]] | None = None, peers: Mapping[str, Scores] | None = None
) -> str:
    """The same tables for a pull request."""
    found = [tables.headline(scores)]
    found += [tables.differences(changes)] if changes else []
    found += [tables.compared({OWN: scores, **peers})] if peers else []
    parts = (tables.attacks, tables.harmless_prompts, tables.detector, tables.guard, tables.cost)
    found += [part(scores) for part in parts]
    return "\n".join(one.markdown() for one in found if one.rows)


def summary(scores: Scores) -> list[str]:
    """A few plain lines for a console: names of attacks, and numbers."""
    lines = [f"{name}: {share} (n = {n})" for name, share, n in tables.headline(scores).rows]
    if reached := [(name, one) for name, one in tables.ranked(scores) if (asr := known(one.get("asr"))) and asr.estimate]:
        worst = ", ".join(f"{_printable(name)} {percent(one['asr']).text}" for name, one in reached[:5])
        lines.append(f"attacks that reached a goal: {len(reached)} of {len(scores['attacks'])}, most of all {worst}")
    elif scores.get("attacks"):
        lines.append(f"attacks that reached a goal: 0 of {len(scores['attacks'])}")
    if found := tables.detector(scores).rows:
        lines.append("AUROC: " + ", ".join(f"{name} {value}" for name, value, _ in found))
    if spent := tables.cost(scores).rows:
        lines.append(", ".join(f"{count} {name}" for name, count in spent))
    return lines


def _failures(scores: Scores) -> Iterator[str]:
    cases, failed, undecided, unasked = (scores.get(name) or 0 for name in ("cases", "failed", "undecided", "unasked"))
    if failed:
        yield f"{tables.number(failed)} of {tables.number(cases)} cases have no outcome, because something failed"
    if undecided:
        yield (
            f"{tables.number(undecided)} of {tables.number(cases)} cases are undecided, because the target had said nothing "
            "yet when its tokens were spent, or called a tool"
        )
    if unasked:
        yield f"{tables.number(unasked)} more were not asked, because the campaign ended before"


def _cards(scores: Scores) -> list[dict[str, Any]]:
    figures = {
        "goals defended": ("good", scores.get("defended")),
        "over-refusal": ("harm", scores.get("over_refusal_of_all")),
        "utility": ("good", scores.get("utility")),
    }
    return [
        {
            "name": name.capitalize(),
            "look": look,
            "share": percent(figure),
            "marks": (Mark(look, name, known(figure)),),
            "words": WORDS[name],
            "n": tables.observed(figure),
        }
        for name, (look, figure) in figures.items()
    ]


def _detector(scores: Scores) -> dict[str, Any]:
    curves = {
        name: curve
        for name, one in (scores.get("detector") or {}).items()
        if (curve := [(x, y) for x, y in one.get("roc") or () if x is not None and y is not None])
    }
    return {
        "detector": tables.detector(scores),
        "detector_looks": {name: HUES[index % len(HUES)] for index, name in enumerate(curves)},
        "roc": inline(plots.curves(curves), "roc", f"ROC of {' and '.join(curves)}") if curves else "",
    }


def _guard(scores: Scores) -> dict[str, Any]:
    looks = {name: ACTIONS.get(name, HUES[3 + index % 2]) for index, name in enumerate(tables.acted(scores))}
    return {
        "guard": tables.guard(scores),
        "guard_looks": looks,
        "guard_marks": [list(_parts(counts, looks)) for counts in (scores.get("guard") or {}).values()],
    }


def _parts(counts: Mapping[str, int], looks: Mapping[str, str]) -> Iterator[Part]:
    total, start = sum(counts.values()), 0.0
    for name, look in looks.items():
        if count := counts.get(name, 0):
            yield Part(look, name, count, start, count / total)
            start += count / total


def _move(row: Mapping[str, Any]) -> Move | None:
    before, after, change = row.get("before"), row.get("after"), known(row.get("change"))
    if before is None or after is None or change is None:
        return None
    look = "better" if change.low > 0 else "worse" if change.high < 0 else "same"
    low, high = (min(1.0, max(0.0, before + end)) for end in (change.low, change.high))
    return Move(look, before, after, low, high)


def _scatter(beside: Mapping[str, Scores]) -> str:
    across, up = "% of harmless prompts refused", "% of goals defended"
    found: list[plots.Point] = []
    for name, one in beside.items():
        x, y = known(one.get("over_refusal_of_all")), known(one.get("defended"))
        if x and y:
            found.append(plots.Point(_printable(name), x, y, name == OWN))
    names = ", ".join(point.name for point in found)
    return inline(plots.scatter(found, across, up), "peers", f"{up} over {across}: {names}") if found else ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
