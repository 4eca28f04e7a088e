"""The report of an update: a page for people and JSON for programs, in the update's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from evaluation.html import render
from evaluation.suite import OverRefusalClass
from evaluation.svg import COLOURS, STYLE, inline
from online.gate.claim import titled
from online.gate.claims import LOST, LOST_BY_A_FAMILY
from online.state.files import write_atomic

PANELS: Mapping[str, Mapping[str, str]] = {
    "Reward": {"reward": "mean over samples"},
    "Entropy of samples, nats a token": {"entropy_refusals": "refusals", "entropy_others": "other responses"},
    "Contested prompts": {"refused": "refused", "mass_contested": "refusal mass", "mass_below": "mass just under the band"},
    "KL to the base, weighted, nats": {
        "kl_responses": "along anchor responses",
        "kl_decision": "at the decision",
        "k3": "k3 estimate, contested",
    },
    "Looks: change of mass on held-out prompts": {
        f"look: {LOST}": "lost on harmful",
        f"look: {LOST_BY_A_FAMILY}": "lost on a family",
        **{f"look: mass on {name} prompts": name for name in get_args(OverRefusalClass)},
    },
    "Engine and trainer apart, nats a token": {"mismatch": "mean", "mismatch_max": "largest"},
    "Length, tokens": {"length": "mean over samples"},
    "Distinct refusal openings": {"openings": "effective number"},
}
"""Plots over steps: title -> metric -> its name in the legend."""
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
"""Of the lines of one panel, which are told apart without their colours."""


def write_report(folder: Path, outcome: Mapping[str, Any], story: Mapping[str, Any]) -> Path:
    """Write report.json and report.html into a folder; returns the page's path.

    `outcome` has "id", "status", "reasons", "version" and "seconds", as `online.updates.record.UpdateOutcome`.
    `story` has the figures of the update: "settings", "gap" (of the entropies), "bands" (prompts in each), "history"
    (metrics of each step) and "gate" (a GateReport as JSON); what was not reached is left out. Raises OSError.
    """
    told = json.loads(json.dumps({"outcome": outcome, **story}), parse_constant=lambda _: None)  # no NaN in JSON
    write_atomic(folder / "report.json", json.dumps(told, indent=1))
    write_atomic(folder / "report.html", page(outcome, story))
    return folder / "report.html"


def page(outcome: Mapping[str, Any], story: Mapping[str, Any]) -> str:
    """The page: one file, nothing fetched, no text of any prompt."""
    gate = story.get("gate") or {}
    return render(
        Path(__file__).with_suffix(".html.jinja"),
        title=f"Update {outcome['id']}",
        outcome=outcome,
        gap=story.get("gap"),
        bands=story.get("bands"),
        panels=[*over_steps(story.get("history") or ())],
        gate=gate,
        changes=inline(changes(gate["power"]), "gate", "What the gate held against its bounds") if gate.get("power") else "",
        models=list(gate.get("figures", ())),
        figures=before_and_after(gate.get("figures", {})),
        settings=story.get("settings"),
    )


def over_steps(history: Sequence[Mapping[str, float]]) -> Iterator[Markup]:
    """A panel for each group of metrics that was noted at all."""
    for number, (title, lines) in enumerate(PANELS.items()):
        shown = {
            label: points
            for metric, label in lines.items()
            if (points := [(step["step"] + 1, step[metric]) for step in history if metric in step])
        }
        if shown:
            yield inline(panel(title, shown), f"panel{number}", f"{title}, over steps: {', '.join(shown)}")


@rc_context(STYLE)
def panel(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Canvas:
    """Lines over steps; label -> (step, value) along it."""
    canvas = Canvas(figsize=(3.9, 2.3), layout="constrained")
    axes: Axes = canvas.add_subplot()
    axes.set_title(title)
    for (label, points), dash in zip(lines.items(), DASHES, strict=False):
        axes.plot(*zip(*points, strict=True), linestyle=dash, label=label, marker="." if len(points) == 1 else None)
    axes.set_xlabel("step")
    axes.legend()
    return canvas


@rc_context(STYLE)
def changes(power: Mapping[str, Mapping[str, Any]]) -> Canvas:
    """Each claim's change with its interval, beside the bound it was held against; of claims about shares."""
    names = [name for name in power if power[name].get("unit") != "nats"][::-1]
    canvas = Canvas(figsize=(8.5, 0.8 + 0.26 * len(names)), layout="constrained")
    axes: Axes = canvas.add_subplot()
    for height, name in enumerate(names):
        row, change = power[name], power[name]["change"]
        held = row["result"] in ("shown", "consistent")
        low, high = (100 * abs(change["estimate"] - change[end]) for end in ("low", "high"))
        axes.errorbar(
            100 * change["estimate"],
            height,
            xerr=[[low], [high]],
            fmt="o" if held else "X",
            markersize=4 if held else 6,
            color=COLOURS["blue" if held else "orange"],
        )
        axes.plot(100 * row["allowed"], height, "|", color=COLOURS["ink"], markersize=11)
    told = [titled(name, power[name].get("part", "")) for name in names]
    axes.set_yticks(range(len(names)), told, color=COLOURS["ink"])
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.axvline(0, color=COLOURS["idle"], zorder=0)
    axes.set_xlabel("rise in percentage points")
    return canvas


def before_and_after(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Every figure of each model the gate measured: a row a figure, its name first, then a column a model."""
    columns = {model: dict(flat(measured)) for model, measured in figures.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [(name, *(column.get(name, "") for column in columns.values())) for name in names]


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value as text) of each figure, however deep."""
    for name, value in figures.items():
        name = f"{prefix} {name}".strip().replace("_", " ")
        if not isinstance(value, Mapping):
            yield name, f"{value:.3f}"
        elif "estimate" not in value:
            yield from flat(value, name)
        elif value["n"]:
            yield name, f"{100 * value['estimate']:.1f}% [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"
