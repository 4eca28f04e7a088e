"""Tables and plots from the results, beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.science.base import PART
from benchmarks.science.chains import LINKS
from benchmarks.science.results import Results
from benchmarks.science.runs import LABELLED, SCARCE, UNTRAINED
from evaluation.svg import STYLE, standalone
from online.training.presets import PRESETS

Run = Mapping[str, Any]

COLUMNS = {
    "DSR plain": "dsr_plain",
    "DSR seen": "dsr_seen",
    "DSR SIRL only": "dsr_sirl_only",
    "DSR base only": "dsr_base_only",
    "**DSR never seen**": "dsr_unseen",
    "DSR new topic": "dsr_new_topic",
    "refused plain": "plain",
    "refused wrapped": "wrapped",
    "refused borderline": "borderline",
    "utility": "utility",
    "garbled": "garbled",
}
MODES = {"T=1": ("after", "sampled"), "greedy": ("greedy", "greedy")}
WHOLE = (*UNTRAINED, "anchored", "anchored, guarded", "mass", "mass, guarded")
"""Runs that are asked all prompts."""
EVERY = (*UNTRAINED, "anchored", "anchored, guarded", SCARCE, *(p for p in PRESETS if p != "anchored"), *LABELLED)
CURVES = {"base": "tab:grey", "mass": "tab:orange", "anchored": "tab:blue"}
STEPPED = ("anchored", "one-sided", "no-anchor", "paper")
LINES = {"seen": "DSR seen", "never": "DSR never seen", "borderline": "refused borderline", "wrapped": "refused wrapped"}
FIGURES = {"seen": "dsr_seen", "never": "dsr_unseen", "borderline": "borderline", "wrapped": "wrapped"}
"""The figure behind each line."""


def figure(run: Run, mode: str, key: str) -> Run:
    found: Run = run[mode].get(key) or run[mode]["over_refusal"][key]
    return found


def percent(runs: Sequence[Run], mode: str, key: str) -> float:
    """Mean over runs."""
    return 100 * sum(figure(run, mode, key)["estimate"] for run in runs) / len(runs)


def cell(runs: Sequence[Run], key: str) -> str:
    """Mean over runs in percent, temperature 1 / greedy; with the widest interval at temperature 1 in brackets."""
    found = [figure(run, "after", key) for run in runs]
    low, high = 100 * min(one["low"] for one in found), 100 * max(one["high"] for one in found)
    return f"{percent(runs, 'after', key):.0f} [{low:.0f}, {high:.0f}] / {percent(runs, 'greedy', key):.0f}"


def table(rows: Mapping[str, Sequence[Run]]) -> str:
    """A row a run, a column a figure."""
    text = "| run | seeds | " + " | ".join(COLUMNS) + " |\n| --- | --- |" + " --- |" * len(COLUMNS) + "\n"
    for name, runs in rows.items():
        text += f"| {name} | {len(runs)} | " + " | ".join(cell(runs, key) for key in COLUMNS.values()) + " |\n"
    return text


def doses(rows: Mapping[str, Run]) -> str:
    """A row a model: its gap, and figures before -> after at T=1 / greedily."""
    shown = {"DSR seen": "dsr_seen", "DSR never seen": "dsr_unseen", "borderline": "borderline", "garbled": "garbled"}
    text = (
        "| model | gap AUROC | " + " | ".join(shown) + " | the learner |\n| --- | --- |" + " --- |" * (len(shown) + 1) + "\n"
    )
    for name, run in rows.items():
        gap = run["untaught"]["after"]["entropy_gap"]
        text += f"| {name} | {gap['estimate']:.2f} [{gap['low']:.2f}, {gap['high']:.2f}] | "
        for key in shown.values():
            ends = (percent([one], mode, key) for mode in ("after", "greedy") for one in (run["untaught"], run))
            text += "{:.0f} → {:.0f} / {:.0f} → {:.0f} | ".format(*ends)
        text += ("learns" if run["says"] is None else "refuses to learn") + " |\n"
    return text


def tables(results: Results, base: int) -> str:
    """All tables of one base."""

    def named(names: Sequence[str], chosen: Callable[[Run], Run] = lambda run: run) -> dict[str, list[Run]]:
        found = {name: results.of(base, name) for name in names}
        return {name: [chosen(run) for run in runs] for name, runs in found.items() if runs}

    whole, links = named(WHOLE), {chain: named(names) for chain, names in LINKS.items()}
    text = (
        f"\n## Base {base}\n\nAll {whole['base'][0]['prompts']} test prompts. Percent, T=1 [95%] / greedy.\n\n{table(whole)}"
    )
    text += (
        f"\nThe same, each {PART}th prompt, and all other runs.\n\n{table(named(EVERY, lambda run: run.get('part', run)))}"
    )
    if rows := links["dose-response"]:
        text += f"\nDose-response.\n\n{doses({name: run for name, (run, *_) in rows.items()})}"
    if rows := links["refreshes"]:
        text += f"\nRefreshes in a row.\n\n{table(rows)}"
    return text


def frontier(results: Results, base: int) -> Canvas:
    """DSR over borderline refusals as the guard's threshold falls, for each model; a dot is the bare model."""
    canvas = Canvas(figsize=(10, 7), layout="constrained")
    for row, (which, title) in enumerate((("seen", "seen families"), ("never", "never-seen families"))):
        for column, (name, (_, mode)) in enumerate(MODES.items()):
            axes: Axes = canvas.add_subplot(2, 2, 2 * row + column + 1)
            for run, colour in CURVES.items():
                for number, one in enumerate(results.of(base, run)):
                    ys = [100 * point[f"{which}, {mode}"] for point in one["frontier"]]
                    xs = [100 * point[f"borderline, {mode}"] for point in one["frontier"]]
                    label = None if number else f"{run} + guard"
                    axes.plot(xs, ys, color=colour, label=label, linewidth=1.2)
                    axes.plot(xs[:1], ys[:1], "o", color=colour, markersize=5)
            for run, marker in (("paper", "s"), ("one-sided", "^"), ("sft anchored", "D"), ("dpo anchored", "v")):
                after = "after" if mode == "sampled" else "greedy"
                if runs := results.of(base, run):
                    at = percent(runs, after, "borderline"), percent(runs, after, FIGURES[which])
                    axes.plot(*at, marker, color="tab:red", markersize=5, fillstyle="none", label=run)
            axes.set(xlim=(-2, 80), ylim=(40, 101), title=f"{title}, {name}")
            axes.set_xlabel("borderline prompts refused, %")
            axes.set_ylabel("DSR, %")
            if row == column == 0:
                axes.legend(frameon=False, fontsize=8, loc="lower right")
    return canvas


def dynamics(results: Results, base: int) -> Canvas:
    """Expected refusals at T=1, from exact masses, as learning goes on."""
    canvas = Canvas(figsize=(10, 2.8), layout="constrained")
    shown = {run: results.of(base, run) for run in STEPPED}
    (bare,) = results.of(base, "base")  # on the part of the prompts that is looked at on the way
    for column, (run, runs) in enumerate(shown.items()):
        axes: Axes = canvas.add_subplot(1, len(shown), column + 1)
        for line, label in LINES.items():
            for number, one in enumerate(runs):
                first = percent([bare["part"]], "after", FIGURES[line])
                points = [(0, first), *((at["step"], 100 * at[line][0]) for at in one["dynamics"])]
                axes.plot(*zip(*points, strict=True), color=f"C{list(LINES).index(line)}", label=None if number else label)
        axes.set(title=run, ylim=(-2, 101), xlabel="step")
        if not column:
            axes.set_ylabel("refused, %")
            canvas.legend(frameon=False, fontsize=8, ncols=len(LINES), loc="outside lower center")
    return canvas


def dose_plot(results: Results, base: int) -> Canvas:
    """DSR before and after one update, over the gap before."""
    canvas = Canvas(figsize=(10, 3.2), layout="constrained")
    for column, (key, title) in enumerate((("dsr_seen", "DSR seen"), ("borderline", "borderline refused"))):
        axes: Axes = canvas.add_subplot(1, 2, column + 1)
        for name in LINKS["dose-response"]:
            for run in results.of(base, name):
                gap = run["untaught"]["after"]["entropy_gap"]["estimate"]
                before, after = (percent([one], "after", key) for one in (run["untaught"], run))
                colour = "tab:blue" if run["says"] is None else "tab:red"
                axes.annotate("", (gap, after), (gap, before), arrowprops={"arrowstyle": "->", "color": colour})
                axes.plot(gap, before, "o", color=colour, markersize=4)
        axes.axvline(0.5, color="lightgrey", zorder=0)
        axes.set(xlim=(0, 1), ylim=(-2, 101), xlabel="gap AUROC before; red: the learner refuses", ylabel="%")
        axes.set_title(f"{title}, before → after, T=1")
    return canvas


def refresh_plot(results: Results, base: int) -> Canvas:
    """Each refresh against the base (dotted)."""
    canvas = Canvas(figsize=(10, 3.2), layout="constrained")
    for column, (name, (mode, _)) in enumerate(MODES.items()):
        axes: Axes = canvas.add_subplot(1, 2, column + 1)
        runs = [run for link in LINKS["refreshes"] for run in results.of(base, link)[:1]]
        bare = results.of(base, "base")[0]["part"]
        for number, (line, label) in enumerate(LINES.items()):
            key = FIGURES[line]
            ys = [percent([run], mode, key) for run in runs]
            axes.plot(range(1, len(ys) + 1), ys, ".-", color=f"C{number}", label=label)
            axes.axhline(percent([bare], mode, key), color=f"C{number}", linestyle=":")
        axes.set(title=f"{name}; dotted: the base", ylim=(-2, 101), xlabel="refresh", ylabel="%")
        if column:
            axes.legend(frameon=False, fontsize=8, loc="center right")
    return canvas


PLOTS = {"frontier": frontier, "dynamics": dynamics, "doses": dose_plot, "refreshes": refresh_plot}
NEEDS = {"frontier": "anchored", "dynamics": "anchored", "doses": "flipped", "refreshes": LINKS["refreshes"][-1]}
"""The run without which there is nothing to draw."""


def show(results: Results, folder: Path) -> str:
    """Write tables.md and the plots; returns the tables."""
    text = "<!-- written by python -m benchmarks.science from results.json -->\n"
    for base in sorted({run["base"] for run in results.runs.values()}):
        text += tables(results, base)
        for name, draw in PLOTS.items():
            if results.of(base, NEEDS[name]):
                with rc_context(STYLE):
                    (folder / f"{name}-{base}.svg").write_text(standalone(draw(results, base)))
    (folder / "tables.md").write_text(text)
    return text
