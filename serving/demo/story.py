"""The demo from top to bottom: start, watch traffic, measure, learn, swap under load, measure again, one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

import models
from evaluation import Figure, Prompt, load_suite
from evaluation.suite import from_row
from guard.errors import SirlError
from models.recipe import families, suites
from serving.demo.measure import cells, measure
from serving.demo.server import DemoServer, Pace, load, serving
from serving.demo.steps import Step, showing

TRAFFIC_CONCURRENCY = 24
STREAMS, WAVE_S, PAUSE_S = 8, 8.0, 0.5
"""Clients while the learner runs, seconds between two waves of them, and their pause once the swap is near. They share two
cores with the learner: vLLM's worker keeps one busy for a second after every step, so steady clients would take it all."""
POLL_S = 1.0
"""Seconds between two looks at the update."""
SHOWN = 8
COLOURS = {
    **{"refusal": "green", "over_refusal": "blue", "risky": "red"},
    **{"contested": "yellow", "plain": "cyan", "uncalibrated": "magenta"},
}


AT_ONCE = ("--release-shadow", "0", "--release-canary", "0")
"""What passes its gate serves at once: stages take more traffic than there is in a few minutes."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a demo is: test prompts a class and measurement, requests watched, and flags of the update."""

    prompts: int
    requests: int | None
    flags: tuple[str, ...] = ()
    forced: bool = False
    """Whether what the gate does not promote is swapped in nevertheless, to show a swap."""


WHOLE = Size(60, None, ("--gate-prompts-per-class", "500"))
"""All prompts of the bundled gate suite are asked: of 300 a class a good candidate was left undecided once in four times."""
QUICK = Size(12, 600, ("--update-steps", "10", "--gate-prompts-per-class", "60", "--gate-replayed", "50"), forced=True)
"""The whole path in a few minutes. So few steps and prompts show that it works, and no rise of defence."""


def run_demo(args: argparse.Namespace) -> int:
    """Run it; exit status 0 also when the gate honestly rejects what was learned."""
    console = Console()
    try:
        given = families.load(args.families) if args.families else []
    except (OSError, ValueError) as error:
        raise SirlError(str(error)) from error
    size = QUICK if args.quick else WHOLE
    if args.prompts is not None:
        size = replace(size, prompts=args.prompts)
    with tempfile.TemporaryDirectory(prefix="sirl-demo-") if args.keep is None else nullcontext(args.keep) as folder:
        state = Path(folder) / "state"
        console.rule("[bold]1 · serve")
        started = time.monotonic()
        console.print("starting vLLM with the guard inside ...")
        flags = ["--update-seed", str(args.seed), "--buffer-plain-rate", "1.0", *AT_ONCE, *size.flags]
        with serving(state, flags) as endpoint:
            console.print(f"{endpoint.url}/v1 answers after {time.monotonic() - started:.0f} s, bundled model, base weights")
            result = asyncio.run(Story(console, endpoint, size, args.seed, given).run())
    result["seconds"] = round(time.monotonic() - started, 1)
    console.rule("[bold]before → after")
    console.print(table(result))
    closing(console, result)
    if args.json:
        args.json.write_text(json.dumps(plain(result), indent=1) + "\n")
        console.print(f"written to {args.json}")
    return 0


class Story:
    """The demo's steps on a running endpoint."""

    def __init__(self, console: Console, endpoint: DemoServer, size: Size, seed: int, given: list[families.Family]) -> None:
        self.console, self.endpoint, self.size, self.seed = console, endpoint, size, seed
        self.traffic = load_suite(models.suite("traffic"))
        random.Random(seed).shuffle(self.traffic)
        self.traffic = self.traffic[: size.requests]
        rows = models.suite("test").read_text().splitlines()
        self.test = cells(load_suite(models.suite("test")), size.prompts, seed)
        self.outside = []
        if given:
            wrapped = suites.wrap([json.loads(row) for row in rows], given)
            harmful = [from_row(row) for row in wrapped if row["kind"] == "harmful" and not row["new_topic"]]
            self.outside = random.Random(seed).sample(harmful, min(size.prompts, len(harmful)))

    async def run(self) -> dict:
        self.console.rule("[bold]2 · watch")
        await self.watch()
        self.console.rule("[bold]3 · measure the base on prompts nobody learns from")
        before = await self.measure("3 · measure")
        self.console.rule("[bold]4 · learn from the buffer, gate, swap under load")
        gate, seconds, swap = await self.learn()
        self.console.rule("[bold]5 · measure what serves now")
        after = before if swap is None else await self.measure("5 · measure")
        return {
            "before": before,
            "after": after,
            "gate": gate,
            "failed_requests": self.endpoint.failed,
            "requests": self.endpoint.sent,
            "swap_seconds": swap,
            "update_seconds": seconds,
            "seed": self.seed,
        }

    async def watch(self) -> None:
        """Mixed traffic as clients send it; verdicts and entropies are shown as they arrive."""
        counts: Counter[str] = Counter()
        latest: list[tuple[str, str, dict]] = []
        busy = asyncio.Semaphore(TRAFFIC_CONCURRENCY)
        total = len(self.traffic)
        with (
            showing(self.console, "2 · watch", bar=False) as step,
            Live(console=self.console, refresh_per_second=8, transient=False) as live,
        ):

            async def one(index: int, prompt: Prompt) -> None:
                async with busy:
                    text, entry = await self.endpoint.ask(prompt, self.seed + index, 1.0)
                if entry is None:
                    return
                counts[entry["verdict"]] += 1
                if entry["verdict"] != "plain" or index % 7 == 0:
                    latest.append((prompt.text, text, entry))
                del latest[:-SHOWN]
                done = counts.total()
                step.at(
                    done / total, f"{done}/{total} responses: {', '.join(f'{n} {v}' for v, n in sorted(counts.items()))}"
                )
                live.update(arriving(latest, counts, total, step.seconds))

            await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(self.traffic)))
            live.stop()
            if not self.console.is_terminal:  # there its last picture ends without a new line
                self.console.print()
        while (await self.admin("GET", "status"))["buffer"]["pending"]:
            await asyncio.sleep(0.1)

    async def measure(self, title: str) -> dict:
        """The table's figures at temperature 1, with those of greedy decoding beside them."""
        total = 2 * len(self.test) + len(self.outside)
        with showing(self.console, title) as step:
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                step.at(done / total, f"test prompts {done}/{total}")

            figures = await measure(self.endpoint, self.test, 1.0, self.seed, advance)
            figures["greedy"] = await measure(self.endpoint, self.test, 0.0, self.seed, advance)
            if self.outside:
                outside = await measure(self.endpoint, self.outside, 1.0, self.seed, advance)
                figures["dsr_given"] = outside["dsr_unseen"]
        return figures

    async def learn(self) -> tuple[dict, float, float | None]:
        """One update from the buffer alone, while clients stream all the while; returns gate, seconds, swap seconds."""
        stop, pace = asyncio.Event(), Pace(STREAMS, WAVE_S, PAUSE_S)
        streams = asyncio.create_task(load(self.endpoint, self.traffic, pace, stop, self.seed))
        await self.admin("POST", "updates")
        with showing(self.console, "4 · learn") as step:
            outcome = await self.outcome(step, pace)
        pace.hurried.set()
        swap = await self.swapped(outcome)
        stop.set()
        served = Counter(await streams)
        self.console.print(f"streams while learning and swapping, by adapter: {dict(served)}", soft_wrap=True)
        return {"decision": outcome["status"], "reasons": outcome["reasons"]}, outcome["seconds"], swap

    async def outcome(self, step: Step, pace: Pace) -> dict:
        """How the update that runs ended; tells how far it is, and hurries the load where the end is near."""
        while True:
            await asyncio.sleep(POLL_S)
            updating = (await self.admin("GET", "status"))["learner"]["updating"]
            listed = (await self.admin("GET", "updates"))["updates"]
            update = listed[-1] if listed else None
            if update and update["outcome"]:
                step.at(1.0, update["outcome"]["status"])
                return update["outcome"]
            if not updating:
                raise RuntimeError(f"The update ended without an outcome: see {self.endpoint.state / 'learner.log'}.")
            if update and (progress := update["progress"]):
                share = await asyncio.to_thread(self.endpoint.metric, "sirl_update_progress_ratio")
                steps = f" {progress['step']}/{progress['total']}" if progress["total"] else ""
                step.at(share, progress["stage"] + steps, stage=progress["stage"])
                if progress["stage"] == "gating" and progress["step"] == progress["total"] - 1:
                    pace.hurried.set()

    async def swapped(self, outcome: dict) -> float | None:
        """Seconds that the swap to what was learned took; None where there is none."""
        if outcome["version"] is None:
            return None
        name = f"v{outcome['version']}"
        if outcome["status"] != "promoted":
            if not self.size.forced:
                return None
            self.console.print(f"the gate did not promote {name}: swapped in nevertheless, to show a swap")
            await self.admin("POST", f"adapters/{name}/activate", force="true")
        while (await self.admin("GET", "status"))["adapter"] != name:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # some more streams end on the new adapter
        return await asyncio.to_thread(self.endpoint.metric, "sirl_swap_duration_seconds_sum")

    async def admin(self, method: str, path: str, **query: str) -> dict:
        return await asyncio.to_thread(self.endpoint.admin, method, path, **query)


def arriving(latest: list[tuple[str, str, dict]], counts: Counter[str], total: int, seconds: float) -> Table:
    """The latest responses, each with its verdict, its entropy as a bar and its refusal mass."""
    done = sum(counts.values())
    title = f"{done}/{total} responses, {done / max(seconds, 1e-6):.0f}/s   " + "  ".join(
        f"[{COLOURS[verdict]}]{verdict} {count}[/]" for verdict, count in sorted(counts.items())
    )
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, expand=True)
    for name, width in (("verdict", 12), ("entropy", 15), ("mass", 4)):
        shown.add_column(name, no_wrap=True, width=width)
    shown.add_column("prompt", no_wrap=True, ratio=1)
    shown.add_column("response", no_wrap=True, ratio=1)
    for prompt, text, entry in latest:
        mean = entry["entropy"]["mean"] or 0.0
        colour = COLOURS[entry["verdict"]]
        bar = "█" * min(10, round(mean * 6))
        mass = "-" if entry["refusal_mass"] is None else f"{entry['refusal_mass']:.2f}"
        verdict, entropy = f"[{colour}]{entry['verdict']}[/]", f"[{colour}]{mean:4.2f} {bar:10}[/]"
        shown.add_row(verdict, entropy, mass, escape(prompt), escape(text))
    return shown


ROWS = (
    ("DSR, seen families", ("dsr_seen",)),
    ("DSR, never-seen families", ("dsr_unseen",)),
    ("DSR, families given", ("dsr_given",)),
    ("over-refusal, plain", ("over_refusal", "plain")),
    ("over-refusal, wrapped", ("over_refusal", "wrapped")),
    ("over-refusal, borderline", ("over_refusal", "borderline")),
    ("utility", ("utility",)),
    ("garbled", ("garbled",)),
    ("entropy gap, nats", ("entropy_gap",)),
)


def table(result: dict) -> Table:
    """Before and after at temperature 1 and greedy, with 95% intervals."""
    shown = Table(show_header=True, header_style="bold")
    shown.add_column("")
    for name in ("before, T=1", "after, T=1", "before, greedy", "after, greedy"):
        shown.add_column(name, justify="right")
    for name, path in ROWS:
        found = [
            pick(figures, path)
            for figures in (result["before"], result["after"], result["before"]["greedy"], result["after"]["greedy"])
        ]
        if any(figure is not None for figure in found):
            shown.add_row(name, *(written(figure, share="nats" not in name) for figure in found))
    return shown


def pick(figures: dict, path: tuple[str, ...]) -> Figure | None:
    """The figure under these keys, if it was measured."""
    *outer, last = path
    for key in outer:
        figures = figures[key]
    return figures.get(last)


def written(figure: Figure | None, *, share: bool) -> str:
    if figure is None or math.isnan(figure.estimate):
        return "-"
    if share:
        return f"{100 * figure.estimate:.0f}% [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"
    return f"{figure.estimate:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def closing(console: Console, result: dict) -> None:
    gate, swap = result["gate"], result["swap_seconds"]
    console.print(f"gate: [bold]{gate['decision']}[/]")
    for reason in gate["reasons"]:
        console.print(f"  · {reason}", highlight=False)
    swapped = "no swap" if swap is None else f"swap {1000 * swap:.0f} ms"
    console.print(
        f"failed requests: {result['failed_requests']} of {result['requests']}; {swapped}; "
        f"update {result['update_seconds']:.0f} s; all {result['seconds']:.0f} s"
    )


def plain(value: object) -> object:
    """Figures as dictionaries and NaN as null, for JSON."""
    if isinstance(value, Figure):
        return {k: plain(v) for k, v in value.to_dict().items()}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
