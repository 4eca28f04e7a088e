"""The report of an update: a page for people and JSON for programs, in the update's folder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from evaluation.html import document, table
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
    "Engine and trainer apart, nats a token": {"mismatch": "mean", "mismatch_max": "largest"},
    "Length, tokens": {"length": "mean over samples"},
    "Distinct refusal openings": {"openings": "effective number"},
}
"""Plots over steps: title -> metric -> its name in the legend."""
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def write_report(folder: Path, outcome: Mapping[str, Any], story: Mapping[str, Any]) -> Path:
    """Write report.json and report.html into a folder; returns the page's path.

    `outcome` has "id", "status", "reasons", "version" and "seconds", as `online.updates.record.Outcome`.
    `story` has what the update came to: "settings", "gap" (of the entropies), "bands" (prompts in each), "history" (metrics
    of each step) and "gate" (a GateReport as JSON); what it did not come to is left out. Raises OSError.
    """
    document = json.loads(json.dumps({"outcome": outcome, **story}), parse_constant=lambda _: None)  # no NaN in JSON
    write_atomic(folder / "report.json", json.dumps(document, indent=1))
    write_atomic(folder / "report.html", page(outcome, story))
    return folder / "report.html"


def page(outcome: Mapping[str, Any], story: Mapping[str, Any]) -> str:
    """The page: one file, nothing fetched, no text of any prompt."""
    made = f", which made v{outcome['version']}" if outcome["version"] else ""
    name, status = escape(outcome["id"]), outcome["status"]
    parts = [
        f"<h1>Update {name}: <span class={status}>{status}</span></h1>",
        f"<p>It took {outcome['seconds']:.0f} s{made}.</p>",
        "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in outcome["reasons"]) + "</ul>",
    ]
    if gap := story.get("gap"):
        area = gap["auroc"]
        parts.append(
            f"<p>Entropy gap before learning: AUROC {area['estimate']:.3f} [{area['low']:.3f}, {area['high']:.3f}], "
            f"refusals {gap['mean_gap']:.2f} nats under compliances in the mean ({gap['refusals']} and "
            f"{gap['compliances']} of them).</p>"
        )
    if bands := story.get("bands"):
        parts.append("<p>Prompts by refusal mass on the base: " + ", ".join(f"{n} {b}" for b, n in bands.items()) + ".</p>")
    if history := story.get("history"):
        parts += ["<h2>Learning</h2>", over_steps(history)]
    if gate := story.get("gate"):
        parts += ["<h2>Gate</h2>", changes(gate["power"]) if gate["power"] else "", before_and_after(gate["figures"])]
    if settings := story.get("settings"):
        parts += ["<h2>Settings</h2>", table([(name, str(value)) for name, value in settings.items()])]
    return document(f"Update {outcome['id']}", "".join(parts))


@rc_context(STYLE)
def over_steps(history: Sequence[Mapping[str, float]]) -> str:
    """A panel for each group of metrics that was noted at all."""
    shown = {title: lines for title, lines in PANELS.items() if any(name in step for step in history for name in lines)}
    rows = -(-len(shown) // 2)
    canvas = Canvas(figsize=(9, 2.4 * rows), layout="constrained")
    for number, (title, lines) in enumerate(shown.items(), start=1):
        axes = canvas.add_subplot(rows, 2, number)
        axes.set_title(title, loc="left", fontsize=9)
        for metric, label in lines.items():
            if points := [(step["step"] + 1, step[metric]) for step in history if metric in step]:
                axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) == 1 else None)
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8)
    return svg(canvas)


@rc_context(STYLE)
def changes(power: Mapping[str, Mapping[str, Any]]) -> str:
    """Each claim's change with its interval, beside the bound it was held against."""
    canvas = Canvas(figsize=(9, 0.8 + 0.26 * len(power)), layout="constrained")
    axes: Axes = canvas.add_subplot()
    names = list(power)[::-1]
    for height, name in enumerate(names):
        row, change = power[name], power[name]["change"]
        colour = "tab:green" if row["result"] in ("shown", "consistent") else "tab:red"
        low, high = (100 * abs(change["estimate"] - change[end]) for end in ("low", "high"))
        axes.errorbar(100 * change["estimate"], height, xerr=[[low], [high]], fmt="o", markersize=4, color=colour)
        axes.plot(100 * row["allowed"], height, "|", color="black", markersize=11)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(0, color="lightgrey", zorder=0)
    axes.set_xlabel("rise in percentage points, with its interval; the stroke: what is allowed")
    return svg(canvas)


def before_and_after(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Every figure of each policy the gate measured: a row a figure, a column a policy."""
    columns = {policy: dict(flat(measured)) for policy, measured in figures.items()}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [(name, *(column.get(name, "") for column in columns.values())) for name in names]
    return table(rows, ("", *columns))


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


def svg(canvas: Canvas) -> str:
    """The drawing as an element of the page; the same data give the same bytes."""
    stream = io.StringIO()
    with rc_context({"svg.hashsalt": "sirl", "svg.fonttype": "none"}):
        canvas.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
