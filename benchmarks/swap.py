"""Swaps under load: no failed or mixed response, what a swap costs in TTFT, and whether memory stays flat.

    python -m benchmarks.swap [--streams 64] [--swaps 200] [--think SECONDS]

Clients stream greedily, closed-loop and with a pause for thought, while an operator activates the base and two adapters in
turns. A response is mixed where its text is not what the adapter that it names says alone. TTFT is taken at the client: of
requests that waited for their first token within SWAP_S of a swap, and of the rest. Memory is the resident set of the API
process and of the engine: before and after as long a load without swaps, which warms up what is there to be warmed, and
after the swaps, so that what swaps leave behind is told from what load does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np
from openai import AsyncOpenAI, OpenAIError
from tqdm import tqdm

import models
from benchmarks import adapters
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.state.directory import StateDir
from online.state.files import write_atomic
from serving.demo.server import MODEL, DemoServer, serving

RESULTS = Path("benchmarks/results/swap.json")
TEXT = "How do I bake a loaf of bread?"
PAUSE_S = 1.0
"""Between two swaps: long enough for streams that began before it to end."""
SWAP_S = 0.2


@dataclass
class Streams:
    """Clients that stream one greedy response after another until told to stop."""

    client: AsyncOpenAI
    think: float = 0.0
    stop: bool = False
    failed: int = 0
    began: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    said: list[tuple[str | None, str]] = field(default_factory=list)

    async def run(self, count: int) -> None:
        await asyncio.gather(*(self._client() for _ in range(count)))

    async def _client(self) -> None:
        while not self.stop:
            await asyncio.sleep(self.think * random.random() * 2)
            began, first, text, adapter = perf_counter(), None, "", None
            try:
                chunks = await self.client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": TEXT}], temperature=0, max_tokens=32, stream=True
                )
                async for chunk in chunks:
                    for choice in chunk.choices:
                        if choice.delta.content and first is None:
                            first = perf_counter()
                        text += choice.delta.content or ""
                    for entry in (chunk.model_extra or {}).get("guard", []):
                        adapter = entry["adapter"]
            except OpenAIError:
                first = None
            if first is None:
                self.failed += 1
                continue
            self.began.append(began)
            self.ttft.append(first - began)
            self.said.append((adapter, text))


def family(root: int) -> Iterator[int]:
    """A process and all it started."""
    yield root
    for child in Path(f"/proc/{root}/task").glob("*/children"):
        for pid in child.read_text().split():
            yield from family(int(pid))


def resident(root: int) -> dict[str, float]:
    """MiB that the API process and the engine hold, with what each started beside."""
    held = {"api": 0.0, "engine": 0.0}
    for pid in family(root):
        engine = b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
        held["engine" if engine else "api"] += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20
    return {name: round(mib, 1) for name, mib in held.items()}


async def measure(endpoint: DemoServer, names: list[str], streams: int, swaps: int, think: float) -> dict:
    """Swap in turns under load, and what came of it."""

    async def activate(name: str) -> None:
        await asyncio.to_thread(endpoint.admin, "POST", f"adapters/{name}/activate?force=true")

    alone = {}
    for name in names:
        await activate(name)
        one = Streams(endpoint.client)
        running = asyncio.create_task(one.run(1))
        await asyncio.sleep(PAUSE_S)
        one.stop = True
        await running
        alone[name] = one.said[-1][1]
    if len(set(alone.values())) < len(names):
        raise SystemExit("the adapters say the same, so nothing could be told mixed: take other seeds")
    load, at, memory = Streams(endpoint.client, think), [], []
    running = asyncio.create_task(load.run(streams))
    await asyncio.sleep(3)
    memory.append(resident(endpoint.process.pid))
    for _ in tqdm(range(swaps), desc="warming", unit="pause"):
        await asyncio.sleep(PAUSE_S)
    memory.append(resident(endpoint.process.pid))
    for turn in tqdm(range(swaps), desc="swapping", unit="swap"):
        await activate(names[turn % len(names)])
        at.append(perf_counter())
        await asyncio.sleep(PAUSE_S)
        if turn + 1 in (swaps // 2, swaps):
            memory.append(resident(endpoint.process.pid))
    load.stop = True
    await running
    await asyncio.sleep(PAUSE_S)
    began, ttft = np.array(load.began), np.array(load.ttft)
    near = np.array([any(b - SWAP_S <= moment <= b + t + SWAP_S for moment in at) for b, t in zip(began, ttft, strict=True)])
    rest, swapping = (1000 * np.percentile(ttft[where], (50, 99)) for where in (~near, near))
    return {
        "streams": streams,
        "think_s": think,
        "swaps": swaps,
        "responses": len(load.said),
        "failed": load.failed,
        "mixed": sum(alone.get(adapter or "") != text for adapter, text in load.said),
        "by_adapter": {name: sum(adapter == name for adapter, _ in load.said) for name in names},
        "ttft_ms": {"rest": [round(x) for x in rest], "swap": [round(x) for x in swapping]},
        "p99_ratio": round(float(swapping[1] / rest[1]), 2),
        "memory_mib": dict(zip(("begin", "warm", "half the swaps", "all"), memory, strict=True)),
        "loaded_at_the_end": sorted(endpoint.admin("GET", "status")["loaded"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="swaps under load")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--think", type=float, default=0.0, help="mean pause of a client before each request, seconds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(StateDir(Path(folder) / "state"), fingerprint(models.bundled()))
        names = ["base"]
        for seed in (1, 2):
            made = adapters.make(Path(folder) / f"lora-{seed}", seed)
            names.append(f"v{registry.import_adapter(made, base_dir=models.bundled(), max_rank=16)}")
        with serving(Path(folder) / "state") as endpoint:
            found = asyncio.run(measure(endpoint, names, args.streams, args.swaps, args.think))
    found = {"date": datetime.now(UTC).date().isoformat(), **found}
    write_atomic(args.results, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
