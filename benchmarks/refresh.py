"""A refresh beside a serving load: how long it takes, and what it costs the clients meanwhile.

    python -m benchmarks.refresh [--rounds N] [--clients N] [--rollouts transformers engine]

For each source of rollouts, round by round in turns: a fresh endpoint on the bundled model is asked the traffic suite, so
that its buffer fills, and a while by clients that are not counted; then clients stream closed-loop: for a while alone, while
one whole update (rollouts, training, calibration, gate, swap) runs, and for a while alone again, for this machine drifts.
TTFT is taken at the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
from openai import AsyncOpenAI, OpenAIError
from tqdm import tqdm

import models
from evaluation import Prompt, load_suite
from online.state.files import write_atomic
from serving.demo.server import MODEL, DemoServer
from serving.demo.story import AT_ONCE
from serving.processes.server_process import child

RESULTS = Path("benchmarks/results/refresh.json")
ALONE_S = 60.0
"""Before the update, and again after it."""
WARM_S = 30.0
LIMIT_S = 900.0
THINK_S = 0.1
"""Mean pause of a client between two requests."""


@dataclass
class Load:
    """Clients that stream one request after another until told to stop."""

    client: AsyncOpenAI
    prompts: Sequence[Prompt]
    seed: int
    ttft: list[float] = field(default_factory=list)
    failed: int = 0
    stop: bool = False

    async def run(self, clients: int) -> None:
        await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        luck = random.Random(f"{self.seed} {number}")
        while not self.stop:
            began, first, ended = perf_counter(), None, False
            try:
                chunks = await self.client.chat.completions.create(
                    model=MODEL, messages=list(luck.choice(self.prompts).messages), max_tokens=64, stream=True
                )
                async for chunk in chunks:
                    for choice in chunk.choices:
                        if choice.delta.content and first is None:
                            first = perf_counter() - began
                        ended |= choice.finish_reason is not None
            except OpenAIError:
                ended = False
            if ended and first is not None:
                self.ttft.append(first)
            self.failed += not ended
            await asyncio.sleep(luck.expovariate(1 / THINK_S))


async def under_load(
    endpoint: DemoServer, prompts: Sequence[Prompt], clients: int, seed: int, until: Callable[[], Awaitable[None]]
) -> tuple[Load, float]:
    """Load until `until()` is over, and how many seconds that was."""
    load, began = Load(endpoint.client, prompts, seed), perf_counter()
    running = asyncio.create_task(load.run(clients))
    await until()
    load.stop = True
    await running
    return load, perf_counter() - began


def summary(*phases: tuple[Load, float]) -> dict:
    """Of phases taken together: TTFT in ms, what failed, and how long they were."""
    ttft = [1000 * one for load, _ in phases for one in load.ttft]
    return {
        "requests": len(ttft),
        "failed": sum(load.failed for load, _ in phases),
        "seconds": round(sum(seconds for _, seconds in phases), 1),
        "ttft_ms": {f"p{q}": round(float(np.percentile(ttft, q)), 1) for q in (50, 95, 99)},
    }


async def measure(endpoint: DemoServer, clients: int, seed: int) -> dict:
    """Fill the buffer, then load alone and beside one update."""
    traffic, asked = load_suite(models.suite("traffic")), asyncio.Semaphore(32)

    async def fill(prompt: Prompt, number: int) -> None:
        async with asked:
            await endpoint.ask(prompt, number, 1.0)

    filling = [fill(prompt, number) for number, prompt in enumerate(traffic)]
    for done in tqdm(asyncio.as_completed(filling), total=len(traffic), desc="traffic", unit="request"):
        await done

    async def update() -> None:
        await asyncio.to_thread(endpoint.admin, "POST", "updates")
        async with asyncio.timeout(LIMIT_S):
            while not await asyncio.to_thread(finished):
                await asyncio.sleep(1)

    def finished() -> list[dict]:
        return [one["outcome"] for one in endpoint.admin("GET", "updates")["updates"] if one["outcome"]]

    def alone() -> Awaitable[None]:
        return asyncio.sleep(ALONE_S)

    await under_load(endpoint, traffic, clients, seed, lambda: asyncio.sleep(WARM_S))
    phases = [await under_load(endpoint, traffic, clients, seed, until) for until in (alone, update, alone)]
    quiet, beside = summary(phases[0], phases[2]), summary(phases[1])
    (outcome,) = finished()
    report = json.loads((endpoint.state / "updates" / outcome["id"] / "report.json").read_text())
    apart = [step["mismatch_max"] for step in report["history"] if "mismatch_max" in step]
    return {
        "alone": quiet,
        "alone_before": summary(phases[0]),
        "alone_after": summary(phases[2]),
        "beside": beside,
        "ratio_p99": round(beside["ttft_ms"]["p99"] / quiet["ttft_ms"]["p99"], 3),
        "update_seconds": round(outcome["seconds"], 1),
        "status": outcome["status"],
        "reasons": outcome["reasons"],
        "steps_from_engine": len(apart),
        "mismatch_max_nats": max(apart, default=None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="one update beside a serving load")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rollouts", nargs="+", default=["transformers", "engine"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    found: dict = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.machine(),
        "clients": args.clients,
        "rounds": [],
    }
    for number in range(args.rounds):
        for source in args.rollouts:
            with tempfile.TemporaryDirectory() as folder:
                state, log = Path(folder) / "state", Path(folder) / "server.log"
                flags = ["--state-dir", str(state), "--update-rollouts", source, "--buffer-plain-rate", "1", *AT_ONCE]
                with child(flags, log) as (url, process):
                    endpoint = DemoServer(url, state, log, process)
                    one = {"rollouts": source, "round": number, **asyncio.run(measure(endpoint, args.clients, number))}
            print(json.dumps(one), flush=True)
            found["rounds"].append(one)
            write_atomic(args.results, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
