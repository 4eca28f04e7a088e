"""The endpoint the demo talks to: `sirl serve` as a child process, and its clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from openai import AsyncOpenAI, OpenAIError

from evaluation import Prompt
from serving.processes.server_process import child

MODEL = "sirl-tiny"
ENVIRONMENT = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "60"}
"""Idle connections stay open for longer than clients reuse them, for every request that fails counts here."""


@dataclass
class DemoServer:
    """Where it answers, its state directory and its process; `failed` counts requests that did not end well."""

    url: str
    state: Path
    log: Path
    process: subprocess.Popen
    sent: int = 0
    failed: int = 0
    client: AsyncOpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key="demo", max_retries=0, timeout=120)

    def admin(self, method: str, path: str) -> dict:
        """One call of the administration API."""
        answer = httpx.request(method, f"{self.url}/guard/v1/{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    async def ask(self, prompt: Prompt, seed: int, temperature: float, *, internal: bool = False) -> tuple[str, dict | None]:
        """One chat completion through the openai client: its text and the guard's entry; ("", None) when it failed."""
        headers = {"x-sirl-internal": (self.state / "internal.key").read_text()} if internal else None
        self.sent += 1
        try:
            answer = await self.client.chat.completions.create(
                model=MODEL,
                messages=list(prompt.messages),
                max_tokens=96,
                seed=seed,
                temperature=temperature,
                extra_headers=headers,
            )
        except OpenAIError:
            self.failed += 1
            return "", None
        return answer.choices[0].message.content or "", (answer.model_extra or {})["guard"][0]

    async def stream(self, prompt: Prompt, seed: int) -> str | None:
        """One streamed completion; returns the adapter that gave it, None when the stream broke off."""
        self.sent += 1
        adapter, finished = None, False
        try:
            chunks = await self.client.chat.completions.create(
                model=MODEL, messages=list(prompt.messages), max_tokens=96, seed=seed, stream=True
            )
            async for chunk in chunks:
                for choice in chunk.choices:
                    finished |= choice.finish_reason is not None
                for entry in (chunk.model_extra or {}).get("guard", []):
                    adapter = entry["adapter"]
        except OpenAIError:
            finished = False
        if not finished:
            self.failed += 1
            return None
        return adapter


@contextmanager
def serving(state: Path, flags: Sequence[str] = (), port: int | None = None) -> Iterator[DemoServer]:
    """`sirl serve` on this port of this machine, or a free one, until the block ends; drained and gone after it."""
    state.mkdir(parents=True, exist_ok=True)
    log = state / "server.log"
    with child(["--state-dir", str(state), *flags], log, {**os.environ, **ENVIRONMENT}, port) as (url, process):
        yield DemoServer(url, state, log, process)


async def load(
    endpoint: DemoServer, prompts: Sequence[Prompt], streams: int, pause: float, stop: asyncio.Event, seed: int
) -> list[str]:
    """`streams` clients, each streaming one completion after another with `pause` seconds between, until told to stop;
    returns the adapter of each response, in order of ending."""
    adapters: list[str] = []

    async def one(worker: int) -> None:
        turn = 0
        while not stop.is_set():
            prompt = prompts[(worker + turn * streams) % len(prompts)]
            if adapter := await endpoint.stream(prompt, seed + worker + turn * streams):
                adapters.append(adapter)
            turn += 1
            await asyncio.sleep(pause)

    await asyncio.gather(*map(one, range(streams)))
    return adapters
