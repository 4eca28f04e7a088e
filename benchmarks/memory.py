"""What load leaves behind in the server's memory, beside what plain vLLM keeps under the same load.

    python -m benchmarks.memory [--responses 3600] [--streams 16]

One server after the other gets the same streamed greedy completions, closed-loop. Resident sets of the API process and the
engine, each with what it started, are read at the start and after every twelfth of the responses. A leak goes on as long
as the load does, what an allocator keeps for later comes to an end: so the growth by response is given for the first half
and for the last quarter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from openai import AsyncOpenAI
from tqdm import tqdm

import models
from benchmarks.guard import plain
from benchmarks.swap import TEXT, resident
from online.state.files import write_atomic
from serving.demo.server import MODEL, serving

RESULTS = Path("benchmarks/results/memory.json")
LOOKS = 12


@contextmanager
def guarded(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen]]:
    """Ours: (its URL, the model's name, the process)."""
    with serving(folder / "state") as endpoint:
        yield endpoint.url, MODEL, endpoint.process


@contextmanager
def bare(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen]]:
    """Plain vLLM: (its URL, the model's name, the process)."""
    model = models.bundled()
    with plain(model, folder / "log") as (url, process):
        yield url, str(model), process


async def load(url: str, model: str, process: subprocess.Popen, responses: int, streams: int) -> list[dict[str, float]]:
    """Resident MiB at the start and after every share of the responses."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
    looks = [resident(process.pid)]
    turns = iter(tqdm(range(1, responses + 1), desc=model, unit="response"))

    async def one() -> None:
        for turn in turns:
            chunks = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": TEXT}], temperature=0, max_tokens=32, stream=True
            )
            async for _ in chunks:
                pass
            if turn % (responses // LOOKS) == 0:
                looks.append(resident(process.pid))

    await asyncio.gather(*(one() for _ in range(streams)))
    return looks


def growth(looks: list[dict[str, float]], who: str, responses: int) -> dict[str, float]:
    """KiB by response in the first half and in the last quarter."""
    held, each = [look[who] for look in looks], responses / LOOKS
    return {
        "first half": round(1024 * (held[LOOKS // 2] - held[0]) / (each * LOOKS / 2), 1),
        "last quarter": round(1024 * (held[LOOKS] - held[3 * LOOKS // 4]) / (each * LOOKS / 4), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="memory under load, ours and plain vLLM's")
    parser.add_argument("--responses", type=int, default=3600)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    found: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        **{k: vars(args)[k] for k in ("responses", "streams")},
    }
    for name, server in {"plain vLLM": bare, "sirl-guard": guarded}.items():
        with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as (url, model, process):
            looks = asyncio.run(load(url, model, process, args.responses, args.streams))
        kib = {who: growth(looks, who, args.responses) for who in ("api", "engine")}
        found[name] = {"mib": looks, "kib_by_response": kib}
    write_atomic(args.results, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
