"""What an endpoint does on the test split: the figures of the demo's table."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections.abc import Callable, Sequence

from evaluation import Figure, GrammarJudge, Outcome, Prompt, summarise
from serving.demo.server import DemoServer

CONCURRENCY = 48


def cells(prompts: Sequence[Prompt], most: int, seed: int) -> list[Prompt]:
    """At most `most` prompts of each cell of the table, drawn from a seed."""
    rng = random.Random(seed)
    of: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        if name := cell(prompt):
            of.setdefault(name, []).append(prompt)
    return [prompt for name in sorted(of) for prompt in rng.sample(of[name], min(most, len(of[name])))]


def cell(prompt: Prompt) -> str | None:
    """The cell a prompt counts in: jailbreaks seen and never seen on known topics, benign classes, tasks."""
    if prompt.kind == "harmful":
        return prompt.novelty if prompt.novelty in ("seen", "never") and not prompt.new_topic else None
    return prompt.over_refusal_class or prompt.kind


async def measure(
    endpoint: DemoServer, prompts: Sequence[Prompt], temperature: float, seed: int, advance: Callable[[], None]
) -> dict:
    """Ask each prompt once as internal traffic, judge the answers, and return figures by name."""
    judge, gate = GrammarJudge(), asyncio.Semaphore(CONCURRENCY)

    async def one(index: int, prompt: Prompt) -> tuple[Outcome, float]:
        async with gate:
            text, entry = await endpoint.ask(prompt, seed + index, temperature, internal=True)
        advance()
        return judge.judge(prompt, text), entry["entropy"]["mean"] if entry else math.nan

    found = await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(prompts)))
    summary = summarise(prompts, [outcome for outcome, _ in found])
    harmful = [(o, h) for p, (o, h) in zip(prompts, found, strict=True) if p.kind == "harmful"]
    return {
        "dsr_seen": summary["dsr_seen"],
        "dsr_unseen": summary["dsr_unseen"],
        "over_refusal": summary["over_refusal"],
        "utility": summary["utility"],
        "garbled": summary["garbled"],
        "entropy_gap": gap(harmful),
    }


def gap(harmful: Sequence[tuple[Outcome, float]]) -> Figure:
    """Mean entropy of compliances minus that of refusals, in nats, with its 95% normal interval; NaN where a side is
    missing, as it is once everything is refused."""
    sides = [[h for o, h in harmful if o is kind] for kind in (Outcome.COMPLIANCE, Outcome.REFUSAL)]
    if min(map(len, sides)) < 2:
        return Figure(math.nan, math.nan, math.nan, min(map(len, sides)))
    comply, refuse = sides
    estimate = statistics.fmean(comply) - statistics.fmean(refuse)
    error = math.sqrt(statistics.variance(comply) / len(comply) + statistics.variance(refuse) / len(refuse))
    return Figure(estimate, estimate - 1.96 * error, estimate + 1.96 * error, len(comply) + len(refuse))
