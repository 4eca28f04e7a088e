"""The real engine behind the real server: one shared by all tests that can, others started where flags differ."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

import models
from serving.processes.server_process import child
from tests import workers

# A stall of the machine is no defect: what takes how long is for the benchmarks.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(workers)


@dataclass
class Server:
    """A running endpoint: where it answers, what it keeps, the process to signal."""

    url: str
    state: Path
    log: Path
    process: subprocess.Popen

    @property
    def calibration(self) -> Path:
        """The base calibration it works by."""
        own = self.state / "registry" / "base" / "calibration.json"
        return own if own.exists() else models.bundled() / "calibration.json"

    @property
    def internal(self) -> dict[str, str]:
        """The header by which our own traffic is known."""
        return {"x-sirl-internal": (self.state / "internal.key").read_text()}

    def post(self, path: str, json: dict, **kwargs) -> httpx.Response:
        return httpx.post(self.url + path, json=json, timeout=300, **kwargs)

    def get(self, path: str, **kwargs) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **kwargs)

    def chat(self, text: str, headers: dict | None = None, **options) -> dict:
        """One chat completion by the bundled model; returns its body."""
        body = {"model": "sirl-tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 48, **options}
        answer = self.post("/v1/chat/completions", body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples on the live /metrics."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        assert lines, f"{name} is not exported"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def wait(self, condition, limit: float = 90.0):
        """Poll until `condition()` is truthy and return it; fails with the log's end after `limit` seconds, and a look."""
        deadline = time.monotonic() + limit
        while True:
            late = time.monotonic() >= deadline
            if found := condition():
                return found
            assert not late, self.log.read_text()[-3000:]
            time.sleep(0.05)


PORTS = count(20_000 + 1000 * int((workers.WORKER or "gw0").removeprefix("gw")))
"""Ports of this worker alone, and below those that the kernel lends to connections: one stays free until it is used."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    for port in PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.fixture(autouse=True)
def warnings_are_heard() -> None:
    """Where vLLM's application is built in a test's own process, it turns the root logger down to errors from then on."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def umask_is_put_back() -> Iterator[None]:
    """A command that runs in a test's own process makes files its user's alone, and so all files from then on."""
    mask = os.umask(0o077)
    os.umask(mask)
    yield
    os.umask(mask)


@contextmanager
def running(state: Path, *flags: str, model: str | None = None, env: dict[str, str] | None = None) -> Iterator[Server]:
    """`sirl serve` as its users run it, until the block ends."""
    log = state.parent / f"{state.name}.log"
    arguments = [*([model] if model else []), "--state-dir", str(state), *flags]
    environment = {**os.environ, **(env or {})}
    with child(arguments, log, environment, free_port()) as (url, process):
        yield Server(url, state, log, process)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """The bundled model on its defaults, shared by every test that can."""
    with running(tmp_path_factory.mktemp("server") / "state") as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def calibrated(server) -> Server:
    """The shared server with the calibration that ships with the bundled model taken up."""
    server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
    return server


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of a published model, where it was fetched. Tests that ask for it are marked `real`."""
    from online.fetch import folder
    from online.fetch.catalogue import find

    published = find("qwen2.5-coder-0.5b-instruct")
    if not folder.is_whole(published, where := folder.default(published.name)):
        pytest.skip(f"{published.name} was not fetched: sirl fetch {published.name}")
    return where
