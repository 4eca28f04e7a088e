"""A campaign as one page for people, as tables for a pull request, and as a few lines for a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from evaluation import plots, tables
from evaluation.html import Html, document, safe, table
from evaluation.tables import Scores, Table, Value, known, percent

CSS = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c2330; --faint: #5b6472; --line: #dde1e7; --card: #f5f7f9;
  --harm: #c2410c; --good: #0b63b0; --own: #7a3db8; --notice: #fff3d6;
  --kind0: #0b63b0; --kind1: #c2410c; --kind2: #11713a; --kind3: #7a3db8; --kind4: #8a6a00; --idle: #aab2bd }
@media screen and (prefers-color-scheme: dark) { :root { --back: #14181f; --ink: #e4e8ee; --faint: #9aa5b4; --line: #303947;
  --card: #1c222c; --harm: #ff9a5c; --good: #6cb6ff; --own: #c9a2ff; --notice: #3d3216;
  --kind0: #6cb6ff; --kind1: #ff9a5c; --kind2: #5fd38a; --kind3: #c9a2ff; --kind4: #e0c060; --idle: #566070 } }
body { max-width: 66rem; color: var(--ink); background: var(--back) }
h1 { font-size: 1.6rem; margin-bottom: .5rem } h2 { margin: 2.6rem 0 .3rem } p { max-width: 46rem; margin: .4rem 0 .8rem }
.about { display: flex; flex-wrap: wrap; gap: .1rem 1.6rem; margin: 0; font-size: 13px }
.about div { display: flex; gap: .4rem } .about dt { color: var(--faint) } .about dd { margin: 0; overflow-wrap: anywhere }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; margin-top: 1.4rem }
.cards section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1.2rem }
.cards h2 { margin: 0; font-size: .95rem; color: var(--faint); font-weight: 600 } .cards p { margin: 0; font-size: 13px }
.cards strong { font-size: 2.6rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.notice { background: var(--notice); padding: .5rem .9rem; border-radius: .4rem; max-width: none }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0 3rem }
.wide { overflow-x: auto } .slim { max-width: 46rem } table { width: 100%; font-size: 14px }
td, th { border-color: var(--line); padding: .15rem 0 .15rem 1rem } td:first-child, th:first-child { padding-left: 0 }
th { font-weight: 600; vertical-align: bottom } th:not(:first-child) { text-align: right }
td:first-child { overflow-wrap: anywhere; min-width: 7rem } td.n { white-space: nowrap }
small { color: var(--faint); font-size: 12px; white-space: nowrap } td small { display: inline-block; min-width: 5.6rem }
td:has(> svg.row), th:has(> svg.row) { width: 30%; min-width: 5rem; padding: 0 .6rem 0 1rem }
td:has(> svg.dots) { background: content-box 0 / 25% 100% linear-gradient(to right, var(--line) 1px, transparent 1px),
  content-box linear-gradient(to left, var(--line) 1px, transparent 1px) }
svg { display: block; overflow: visible; fill: currentColor } svg text { font: 12px system-ui, sans-serif }
svg.row { width: 100%; height: 1.5rem } .cards svg.row { height: 1.2rem;
  background: center / 100% 1px no-repeat linear-gradient(var(--line), var(--line)) }
 
svg.plot { max-width: 32rem; width: 100%; margin-bottom: .8rem } svg.named { max-width: 46rem }
svg line { stroke: currentColor; stroke-width: 2 } svg polyline { fill: none; stroke: currentColor; stroke-width: 2 }
svg .grid { stroke: var(--line); stroke-width: 1 } svg .chance { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 4 }
svg .may { opacity: .22 } svg .hollow { fill: var(--back); stroke: currentColor; stroke-width: 2 }
svg .lead { stroke: var(--line); stroke-width: 1 } svg .name.own { font-weight: 700 }
.harm, .worse { color: var(--harm) } .good, .better { color: var(--good) } .same, .peer { color: var(--faint) }
.own { color: var(--own) } .idle { color: var(--idle) } .kind0 { color: var(--kind0) } .kind1 { color: var(--kind1) }
.kind2 { color: var(--kind2) } .kind3 { color: var(--kind3) } .kind4 { color: var(--kind4) }
svg g, svg rect { fill: currentColor } .key::before { content: "\\25cf\\a0" }
@media (max-width: 40rem) { table { font-size: 12.5px } td, th { padding-left: .5rem } .cards section { padding: .6rem 1rem }
  td:first-child { min-width: 6rem } td:has(> svg.row), th:has(> svg.row) { min-width: 4rem; padding: 0 .8rem 0 .6rem }
  svg.named text { font-size: 15px }
  small, td small { display: block; min-width: 0; font-size: 11px } }
@media print { @page { margin: 12mm } body { margin: 0; padding: 0; font-size: 11px } p, .about, .cards p { font-size: 11px }
  table { font-size: 10.5px } small { font-size: 9px } td small { min-width: 4.6rem } td, th { padding-left: .6rem }
  .cards { grid-template-columns: repeat(3, 1fr) } .cards strong { font-size: 1.8rem } svg.row { height: 1.2rem }
  svg.plot { max-width: 24rem } svg.named { max-width: 32rem } h2 { margin-top: 1.6rem; break-after: avoid }
  tr, svg, .cards section { break-inside: avoid } }
"""
ACTIONS = {"none": "idle", "halt": "kind1", "regenerate": "kind0", "route": "kind2"}
"""Looks of what the guard did; any other action has one of its own."""
WORDS = {
    "goals defended": "of the harmful goals held out against every attack",
    "over-refusal": "of the harmless prompts were refused; less is better",
    "utility": "of the ordinary tasks were answered rightly",
}
OWN = "this campaign"


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
    parts = [
        f"<h1>{escape(title)}</h1>",
        _about(about),
        _failures(scores),
        _headline(scores),
        _peers(scores, peers) if peers else "",
        _changes(changes) if changes else "",
        _attacks(scores),
        _harmless(scores),
        f'<div class="pair">{_detector(scores)}<div>{_guard(scores)}{_section(tables.cost(scores), "")}</div></div>',
    ]
    return document(title, f"<main>{''.join(parts)}</main>", CSS)


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


def _about(about: Mapping[str, str]) -> str:
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in about.items())
    return f'<dl class="about">{"".join(items)}</dl>' if about else ""


def _failures(scores: Scores) -> str:
    cases, failed, undecided, unasked = (scores.get(name) or 0 for name in ("cases", "failed", "undecided", "unasked"))
    told = []
    if failed:
        told.append(f"{tables.number(failed)} of {tables.number(cases)} cases have no outcome, because something failed")
    if undecided:
        told.append(
            f"{tables.number(undecided)} of {tables.number(cases)} cases are undecided, because the target had said nothing "
            "yet when its tokens were spent, or called a tool"
        )
    if unasked:
        told.append(f"{tables.number(unasked)} more were not asked, because the campaign ended before")
    return f'<p class="notice">{"; ".join(told)}. They count in no figure but the cost.</p>' if told else ""


def _headline(scores: Scores) -> str:
    figures = {
        "goals defended": ("good", scores.get("defended")),
        "over-refusal": ("harm", scores.get("over_refusal_of_all")),
        "utility": ("good", scores.get("utility")),
    }
    cards = []
    for name, (look, figure) in figures.items():
        share = percent(figure)
        cards.append(
            f'<section><h2>{name.capitalize()}</h2><strong class="{look}">{share.text}</strong> '
            f"<small>{share.interval}</small>{plots.dots(plots.Mark(look, name, known(figure)))}"
            f"<p>{WORDS[name]} (n&nbsp;=&nbsp;{tables.observed(figure)}).</p></section>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _attacks(scores: Scores) -> str:
    found = tables.attacks(scores)
    drawn = [
        plots.dots(plots.Mark("harm", "ASR", known(one.get("asr"))), plots.Mark("good", "DSR", known(one.get("dsr"))))
        for _, one in tables.ranked(scores)
    ]
    words = (
        f"<p>{_key('harm', 'ASR')}: the target complied in at least one try. {_key('good', 'DSR')}: it refused in so many "
        "words and complied in none; the rest is garbled. Lines are 95% intervals; queries are the mean of what "
        "was sent to the target for one goal.</p>"
    )
    return _section(found, words, drawn)


def _harmless(scores: Scores) -> str:
    found = tables.harmless(scores)
    looks = {"tasks answered": "good", "garbled": "same"}
    drawn = [plots.dots(plots.Mark(looks.get(name, "harm"), name, known(one))) for name, one in found.items()]
    words = (
        "<p>Plain: asked as they are. Wrapped: put into the words that attacks come in. Borderline: harmless, yet they "
        "sound like harm. Garbled: neither an answer nor a refusal, over all prompts but tasks.</p>"
    )
    return _section(tables.harmless_prompts(scores), words, drawn)


def _detector(scores: Scores) -> str:
    found = tables.detector(scores)
    curves = {
        name: [(x, y) for x, y in one["roc"] if x is not None and y is not None]
        for name, one in (scores.get("detector") or {}).items()
        if one.get("roc")
    }
    names = {name: Html(_key(f"kind{index % 5}", name)) for index, name in enumerate(curves)}
    rows = [(names.get(str(name), name), *rest) for name, *rest in found.rows]
    words = "<p>How well a signal of the guard tells answers to harm, once given, from answers to harmless prompts.</p>"
    return _section(Table(found.title, found.head, rows), words + (plots.curves(curves) if curves else ""))


def _guard(scores: Scores) -> str:
    looks = {name: ACTIONS.get(name, f"kind{3 + index % 2}") for index, name in enumerate(tables.acted(scores))}
    drawn = [plots.stack(counts, looks) for counts in (scores.get("guard") or {}).values()]
    found = tables.guard(scores)
    head = [found.head[0], *(Html(_key(look, name)) for name, look in looks.items())]
    words = "<p>Answers by what was done about them, as far as it said so.</p>"
    return _section(Table(found.title, head, found.rows), words, drawn, Html(""))


def _changes(changes: Sequence[Mapping[str, Any]]) -> str:
    found = tables.differences(changes)
    drawn = [_change(row) for row in tables.worst_first(changes)]
    words = (
        f"<p>From before (hollow) to after (full), on the cases both have: {_key('better', 'better')}, "
        f"{_key('worse', 'worse')}, {_key('same', 'no difference shown')}. Changes are in percentage points; the pale bar "
        "is where the interval of the change puts the figure after. p is McNemar's, for each row alone: of "
        f"{len(changes)} rows about {0.05 * len(changes):.0f} come under 0.05 by chance.</p>"
    )
    return _section(found, words, drawn)


def _change(row: Mapping[str, Any]) -> Html:
    before, after, change = row.get("before"), row.get("after"), known(row.get("change"))
    return Html("") if before is None or after is None or change is None else plots.dumbbell(before, after, change)


def _peers(scores: Scores, peers: Mapping[str, Scores]) -> str:
    every = {OWN: scores, **peers}
    drawn: list[plots.Point] = []
    for name, one in every.items():
        x, y = known(one.get("over_refusal_of_all")), known(one.get("defended"))
        if x and y:
            drawn.append(plots.Point(name, x, y, name == OWN))
    plot = plots.scatter(drawn, "% of harmless prompts refused", "% of goals defended") if drawn else ""
    unlike = len({frozenset(one.get("attacks") or ()) for one in every.values()}) > 1
    notice = '<p class="notice">Not all were asked with the same attacks, so their figures do not compare.</p>' * unlike
    return _section(tables.compared(every), f"<p>The best place is up and to the left.</p>{notice}{plot}")


def _section(found: Table, words: str, drawn: Sequence[Html] = (), scale: Html | None = None) -> str:
    """A heading, words, and the table with a drawing beside the name of each row; nothing where there are no rows."""
    if not found.rows:
        return ""
    rows: list[list[str]] = [[_name(name), *map(_cell, rest)] for name, *rest in found.rows]
    head = list(found.head)
    if drawn:
        head.insert(1, plots.scale() if scale is None else scale)
        for row, drawing in zip(rows, drawn, strict=True):
            row.insert(1, drawing)
    shape = "wide" if len(head) > 4 else "wide slim"
    return f'<section><h2>{escape(found.title)}</h2>{words}<div class="{shape}">{table(rows, head)}</div></section>'


def _name(name: str | Value) -> Html:
    """A name that breaks after its underscores where a column is narrow."""
    return Html(safe(str(name) if isinstance(name, Value) else name).replace("_", "_<wbr>"))


def _cell(cell: str | Value) -> str:
    """A number with its interval in small print; other cells as they are."""
    if not isinstance(cell, Value):
        return cell
    return Html(f"{cell.text} <small>{cell.interval}</small>") if cell.interval else cell.text


def _key(look: str, name: str) -> str:
    return f'<span class="key {look}"></span>{escape(name)}'


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
