"""What the guard costs: guarded over plain vLLM, in alternating rounds.

    python -m benchmarks.guard [--shapes toy realistic | --model FOLDER] [--modes plain observe lora]
                               [--concurrency 1 16 64] [--rounds 7] [--json FILE]

All servers run all the while, on the same flags; one at a time is asked, and the others' processes are stopped so that not
even their idling takes a share of the machine. In a round every mode gets the same number of streamed completions of random
prompts, in turned order; a ratio is taken within a round, and its median over rounds is reported with the smallest and
largest. Beside the guard's two modes: `logprobs=20` on plain vLLM, from which people estimate entropies today; and `lora`,
an adapter on every linear layer, whose ratio is to the guard without LoRA. Only where they are named: `calibrated`, with
openings whose mass is measured; and `sense`, with a harm sense of four layers at two places beside them, whose ratio is to
`calibrated`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import get_args

import aiohttp
import numpy as np
from tqdm import tqdm
from transformers import AutoConfig

from benchmarks import adapters
from benchmarks.parts import parts
from benchmarks.shapes import VOCABULARY, build
from guard.calibration import Calibration
from guard.sense import Place, Sense, TurnEnd
from models import bundled
from online.model.fingerprint import fingerprint
from online.state.cores import cores
from online.state.directory import StateDir
from online.state.files import write_atomic
from serving.processes.server_process import child, wait_until_healthy

RESULT = Path("benchmarks/results/guard.json")
FLAGS = (
    "--dtype float32 --enforce-eager --max-num-seqs 64 --max-model-len 1024 --no-enable-lora --shutdown-timeout 5 "
    "--generation-config vllm --disable-uvicorn-access-log --max-num-batched-tokens 256"
).split()
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": str(cores()),
}
"""Of both servers: the engine and its worker are one process in either, as ours has it on CPUs."""
PROMPT = 32
"""Tokens of a prompt: few enough that most of the work is generating."""
TAIL = (0, 1)
"""What ends each prompt, as a chat template ends a user's words."""
GENERATED = {"toy": 48}
"""Tokens of a response, where it is not 16; a CPU takes a quarter of a second for one of the realistic shape."""
LEAST = 2
"""Requests of a round at least."""
ADAPTER = "adapter"
MODES: Mapping[str, tuple[str, dict, str]] = {
    "plain": ("plain", {}, "plain"),
    "observe": ("guarded", {}, "plain"),
    "enforce": ("guarded", {"guard": {"mode": "enforce"}}, "plain"),
    "logprobs=20": ("plain", {"logprobs": 20}, "plain"),
    "lora": ("lora", {"model": ADAPTER}, "observe"),
    "calibrated": ("calibrated", {}, "observe"),
    "sense": ("sense", {}, "calibrated"),
}
"""Mode -> the server that is asked, what its requests have beside the others', and the mode that its ratios are to."""
FIGURES = ("throughput", "ttft", "itl")


@dataclass(frozen=True)
class Round:
    """throughput: tokens/s; ttft: median seconds to the first token; itl: median seconds between two tokens."""

    throughput: float
    ttft: float
    itl: float


@contextmanager
def plain(folder: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """vLLM's own server, on a session of its own: (its URL, the process)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module = "vllm.entrypoints.openai.api_server"
    where = ["--model", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-P", "-m", module, *where, *FLAGS]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT}, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stopped(*processes: subprocess.Popen) -> Iterator[None]:
    """Within it these processes, with all of their sessions, do nothing."""
    for process in processes:
        os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGCONT)


async def stream(session: aiohttp.ClientSession, url: str, body: dict) -> list[float]:
    """Arrival times of a stream's chunks with text, in seconds from the request; raises where it does not end well."""
    began, times, last = perf_counter(), [], b""
    async with session.post(url + "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"data: {"):
                times.append(perf_counter() - began)
            if line.strip():
                last = line
    if last.strip() != b"data: [DONE]":
        raise RuntimeError(f"the stream ended with {last!r}")
    return times


async def ask(url: str, folder: Path, more: dict, concurrency: int, seed: int, length: int) -> Round:
    """One request of `length` tokens for each of so many clients at once, at least LEAST of them."""
    rng = random.Random(seed)
    body = {"model": str(folder), "max_tokens": length, "ignore_eos": True, "temperature": 1.0, "stream": True, **more}
    bodies = [
        {**body, "seed": seed + n, "prompt": [*(rng.randrange(2, VOCABULARY) for _ in range(PROMPT)), *TAIL]}
        for n in range(max(concurrency, LEAST))
    ]
    queue, done = iter(bodies), []

    async def client(session: aiohttp.ClientSession) -> None:
        for one in queue:
            done.append(await stream(session, url, one))

    began = perf_counter()
    timeout, connector = aiohttp.ClientTimeout(total=600), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=1 << 20) as session:
        await asyncio.gather(*(client(session) for _ in range(concurrency)))
    seconds = perf_counter() - began
    # The mean gap of a stream and not each: chunks that arrive together would count as gaps of nothing.
    gaps = [(times[-1] - times[0]) / (length - 1) for times in done]
    return Round(len(done) * length / seconds, statistics.median(t[0] for t in done), statistics.median(gaps))


def measure(
    shape: str, folder: Path, modes: Sequence[str], concurrencies: Sequence[int], rounds: int, logs: Path
) -> list[dict]:
    """One row a concurrency and mode: medians, and ratios with the smallest and largest round."""
    rows = []
    needed = {MODES[mode][0] for mode in modes}
    with ExitStack() as stack:
        environment = {**os.environ, **ENVIRONMENT}
        servers = {}
        if "plain" in needed:
            servers["plain"] = stack.enter_context(plain(folder, logs / f"{shape}-plain.log"))
        for name in sorted(needed - {"plain"}):
            flags = [str(folder), "--state-dir", str(logs / f"{shape}-{name}"), *FLAGS]
            if name == "lora":
                flags += lora(folder, logs / f"{shape}-adapter")
            if name in ("calibrated", "sense"):
                calibrate(logs / f"{shape}-{name}", folder, sensing=name == "sense")
            servers[name] = stack.enter_context(child(flags, logs / f"{shape}-{name}.log", environment))
        for concurrency in concurrencies:
            seen: dict[str, list[Round]] = {mode: [] for mode in modes}
            for number in tqdm(range(rounds + 1), desc=f"{shape}, {concurrency} at once", unit="round"):
                at = number % len(modes)
                for mode in [*modes[at:], *modes[:at]]:
                    server, more, _ = MODES[mode]
                    # Every round and mode has prompts of its own, or the prefix cache would answer.
                    seed = 1000 * (number * len(modes) + modes.index(mode))
                    idle = [process for name, (_, process) in servers.items() if name != server]
                    length = GENERATED.get(shape, 16)
                    with stopped(*idle):
                        found = asyncio.run(ask(servers[server][0], folder, more, concurrency, seed, length))
                    if number:  # the first one warms up
                        seen[mode].append(found)
            rows += [row(shape, concurrency, mode, seen[mode], seen[MODES[mode][2]]) for mode in modes]
    return rows


def lora(folder: Path, out: Path) -> list[str]:
    """The flags of a server that has a random adapter of rank 16 on every linear layer, which is made here."""
    adapters.make(out, 0, scale=0.02, model=folder)
    return ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"{ADAPTER}={out}"]


def calibrate(state: Path, folder: Path, *, sensing: bool) -> None:
    """Give a server the bundled model's calibration as the model's own, with a sense of random weights or without one. What
    they tell means nothing; they cost what others cost."""
    config = AutoConfig.from_pretrained(folder).get_text_config()
    layers = tuple(sorted({max(1, config.num_hidden_layers * quarter // 4) for quarter in range(1, 5)}))
    weights = np.random.default_rng(0).standard_normal((2, len(layers), config.hidden_size)) / config.hidden_size
    own = Calibration.load(bundled() / "calibration.json")
    sense = (
        Sense(layers, weights.astype(np.float32), 0.0, places=get_args(Place), turn_end=TurnEnd(TAIL)) if sensing else None
    )
    found = dataclasses.replace(own, model=fingerprint(folder), conditions=None, sense=sense)
    found.save(StateDir(state).calibration_path("base"))


def row(shape: str, concurrency: int, mode: str, own: list[Round], base: list[Round]) -> dict:
    figures: dict = {"shape": shape, "concurrency": concurrency, "mode": mode, "beside": MODES[mode][2], "rounds": len(own)}
    for name in FIGURES:
        ratios = [getattr(mine, name) / getattr(theirs, name) for mine, theirs in zip(own, base, strict=True)]
        figures[name] = statistics.median(getattr(one, name) for one in own)
        figures[f"{name}_ratio"] = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return figures


def markdown(rows: list[dict]) -> str:
    lines = ["| shape | at once | mode | tokens/s | beside | throughput | TTFT | inter-token latency |"]
    lines.append("| --- |" + " --- |" * 7)
    for one in rows:
        ratios = (one[f"{name}_ratio"] for name in FIGURES)
        cells = [one["shape"], str(one["concurrency"]), one["mode"], f"{one['throughput']:.0f}", one["beside"]]
        cells += ["1" if one["mode"] == "plain" else f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="what the guard costs")
    parser.add_argument("--shapes", nargs="*", default=["toy", "realistic"], choices=["toy", "realistic"])
    parser.add_argument("--model", type=Path, help="a model's folder, in place of the shapes")
    parser.add_argument("--modes", nargs="+", default=[*MODES][:-2], choices=list(MODES))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path(".cache/shapes"), help="where models are made, once (2 GB)")
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    if lacking := {MODES[mode][2] for mode in args.modes} - set(args.modes):
        parser.error(f"--modes {' '.join(args.modes)} has ratios to {' and '.join(lacking)}: name it too.")
    rows: list[dict] = []
    shapes = {shape: partial(build, shape, args.cache.resolve()) for shape in args.shapes}
    if args.model:
        shapes = {args.model.resolve().name: args.model.resolve}
    with tempfile.TemporaryDirectory(prefix="sirl-bench-") as logs:
        for shape, made in shapes.items():
            rows += measure(shape, made(), args.modes, args.concurrency, args.rounds, Path(logs))
            print(markdown(rows))
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} CPUs", "rows": rows, "parts": parts()}
    write_atomic(args.json, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["parts"], indent=1))


if __name__ == "__main__":
    main()
