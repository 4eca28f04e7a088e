"""The endpoint the demo talks to: `sirl serve` as a child process, and its clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
    operator: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = AsyncOpenAI(base_url=f"{self.url}/v1", api_key="demo", max_retries=0, timeout=120)
        self.operator = httpx.Client(
            base_url=self.url, timeout=60
        )  # one for all calls: a new one each costs 20 ms of a core

    def admin(self, method: str, path: str, **query: str) -> dict:
        """One call of the administration API."""
        return self.operator.request(method, f"/guard/v1/{path}", params=query).raise_for_status().json()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = self.operator.get("/metrics").text.splitlines()
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
        endpoint = DemoServer(url, state, log, process)
        with endpoint.operator:
            yield endpoint


@dataclass
class Pace:
    """How a load asks: `streams` requests at once every `every_s` seconds; once `hurried`, each client anew after `pause_s`.

    In waves one batch of the engine answers all clients, and between two waves it rests: what learns on the same cores gets
    them. Hurried, some client always has a response under way, as a swap under load needs.
    """

    streams: int
    every_s: float
    pause_s: float
    hurried: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, began: float) -> None:
        """Until the next wave of those that began at this time of the event loop, or until it is hurried."""
        if self.hurried.is_set():
            await asyncio.sleep(self.pause_s)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self.hurried.wait(), self.rest(asyncio.get_running_loop().time() - began))

    def rest(self, passed: float) -> float:
        """Seconds until the next wave, so many after the first."""
        return self.every_s - passed % self.every_s


async def load(endpoint: DemoServer, prompts: Sequence[Prompt], pace: Pace, stop: asyncio.Event, seed: int) -> list[str]:
    """Clients that stream completions, one after another, until told to stop; returns the adapter of each response, in order
    of ending."""
    adapters: list[str] = []
    began = asyncio.get_running_loop().time()

    async def one(worker: int) -> None:
        turn = 0
        while not stop.is_set():
            at = worker + turn * pace.streams
            if adapter := await endpoint.stream(prompts[at % len(prompts)], seed + at):
                adapters.append(adapter)
            turn += 1
            await pace.wait(began)

    await asyncio.gather(*map(one, range(pace.streams)))
    return adapters
