"""The whole way of a real model: calibrated, served, an update from its clients' requests beside it, gated and swapped.

    python -m benchmarks.real_story --model FOLDER --prompts DIR [--requests 400] [--state DIR] [--flags "..."]

Each stage is the command that a user runs; its seconds and its peak of resident memory go to the results when it ends. What
is there already is not run again, the update apart. `--prompts`: a folder of
collected prompts (benchmarks/real.py). Prompts of the traffic are in no suite.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import psutil
from openai import AsyncOpenAI, OpenAIError
from tqdm import tqdm

from benchmarks.real import SEEN, sorted_out, suite, written
from evaluation import Prompt
from evaluation.suites import load
from online.state.files import write_atomic
from serving.processes.server_process import child

RESULT = Path("benchmarks/results/bench-real.json")
PARTS = {"traffic": 0.35, "calibration": 0.12, "validation": 0.08, "gate": 0.45}
BORDERLINE = {"traffic": 0.2, "calibration": 0.3, "validation": 0.1, "gate": 0.4}
"""Of prompts that look harmful there are few, and of 21 the harm sense did not learn what they are."""
TASKS = 160
AT_ONCE, ANSWER = 24, 64
FLAGS = "--update-preset sensed --update-own-prompts 96 --update-steps 12"
HARMFUL = 0.25
"""Share of the traffic that is harmful: much, so that 400 requests hold enough that is contested."""


def parted(prompts: Path) -> dict[str, dict[str, list[Prompt]]]:
    """Collected prompts by what they are used for, and in it by kind; none is used twice."""
    return sorted_out(prompts, PARTS, {"borderline": BORDERLINE})


def suites(prompts: Path, folder: Path) -> list[Prompt]:
    """Write calibration, validation and gate suites; returns what clients send. Tasks are asked at the gate alone: those
    that are checked by unit tests, for of GSM8K's this model solves one in eight."""
    parts = parted(prompts)
    folder.mkdir(parents=True, exist_ok=True)
    used = {prompt.text for part in parts.values() for kind in part.values() for prompt in kind}
    tasks = [p for p in load(prompts / "benign.jsonl") if (p.check or {}).get("kind") == "unit_tests" and p.text not in used]
    for name in ("calibration", "validation", "gate"):
        asked = [*suite(parts[name], SEEN)]
        written(
            [*asked, *(Random(0).sample(tasks, min(TASKS, len(tasks))) if name == "gate" else ())], folder / f"{name}.jsonl"
        )
    return [*suite(parts["traffic"], SEEN)]


def traffic(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many requests, a fixed share of them harmful."""
    luck, harmful = Random("traffic"), [p for p in prompts if p.kind == "harmful"]
    others = [p for p in prompts if p.kind != "harmful"]
    many = min(len(harmful), round(HARMFUL * count))
    asked = [*luck.sample(harmful, many), *luck.sample(others, min(len(others), count - many))]
    return luck.sample(asked, len(asked))


def command(*arguments: str, log: Path) -> dict[str, Any]:
    """Run `sirl` to its end: seconds, peak of resident memory (GB) of it and its children, and its last words."""
    began, peak = time.monotonic(), 0
    with log.open("w") as output:
        process = psutil.Popen([sys.executable, "-m", "serving", *arguments], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                every = [process, *process.children(recursive=True)]
                peak = max(peak, sum(one.memory_info().rss for one in every))
            except psutil.Error:  # one of them has just ended
                pass
            time.sleep(0.5)
    lines = [line for line in re.split(r"[\r\n]+", log.read_text(errors="replace")) if line.strip()]
    return {"seconds": time.monotonic() - began, "peak_gb": peak / 1e9, "status": process.returncode, "said": lines[-30:]}


async def sent(url: str, model: str, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """What clients of the openai library got: requests that failed, seconds, tokens."""
    client, room = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600), asyncio.Semaphore(AT_ONCE)
    bar, found = tqdm(total=len(prompts), desc="traffic", unit="request"), {"failed": 0, "new_tokens": 0, "prompt_tokens": 0}

    async def one(prompt: Prompt) -> None:
        async with room:
            try:
                answer = await client.chat.completions.create(
                    model=model, messages=list(prompt.messages), max_tokens=ANSWER, temperature=1.0
                )  # type: ignore[call-overload]
                found["new_tokens"] += answer.usage.completion_tokens
                found["prompt_tokens"] += answer.usage.prompt_tokens
            except OpenAIError:
                found["failed"] += 1
            bar.update()

    began = time.monotonic()
    await asyncio.gather(*map(one, prompts))
    bar.close()
    return found | {"requests": len(prompts), "seconds": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description="the whole way of a real model")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--flags", default=FLAGS, help="what `sirl update` is given beside its suite")
    parser.add_argument("--state", type=Path, default=Path(".cache/real-story"))
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    state, name = (args.state / args.model.name).resolve(), args.model.name
    state.mkdir(parents=True, exist_ok=True)
    every = json.loads(args.json.read_text()) if args.json.exists() else {}
    story = every.setdefault(name, {}).setdefault("story", {})

    def note(stage: str, found: dict[str, Any]) -> None:
        story[stage] = found | {"date": str(date.today()), "cpus": os.cpu_count()}
        if stage in ("calibrate", "update"):
            every[name] |= {f"{stage}_s": found["seconds"]} | ({"peak_gb": found["peak_gb"]} if stage == "update" else {})
        write_atomic(args.json, json.dumps(every, indent=1) + "\n")
        print(stage, json.dumps({key: value for key, value in found.items() if key != "said"}), flush=True)

    asked = traffic(suites(args.prompts, state / "suite"), args.requests)
    where = ["--state-dir", str(state)]
    if not (state / "registry" / "base" / "calibration.json").exists():
        given = ["--suite", str(state / "suite" / "calibration.jsonl"), *where]
        note("calibrate", command("calibrate", str(args.model), *given, log=state / "calibrate.log"))
    serve = [str(args.model), "--served-model-name", name, "--max-model-len", "2048", *where]
    with child(serve, state / "serve.log") as (url, server):
        if "traffic" not in story or not (state / "buffer.sqlite").exists():
            note("traffic", asyncio.run(sent(url, name, asked)))
        learn = ["--update-suite", str(state / "suite"), "--queue-quarantine-hours", "0", *where]
        learn += shlex.split(args.flags)
        note("update", command("update", str(args.model), *learn, log=state / "update.log") | {"flags": args.flags})
        note(
            "after",
            asyncio.run(sent(url, name, asked[:48])) | {"server_gb": psutil.Process(server.pid).memory_info().rss / 1e9},
        )


if __name__ == "__main__":
    main()
