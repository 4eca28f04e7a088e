"""The real engine behind the real server: one shared by the session, others started where flags differ."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

import models
from serving.processes.server_process import child

# A stall of the machine is no defect: what takes how long is for the benchmarks.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(state: Path, *flags: str, model: str | None = None, env: dict[str, str] | None = None) -> Iterator[Server]:
    """`sirl serve` as its users run it, until the block ends."""
    log = state.parent / f"{state.name}.log"
    arguments = [*([model] if model else []), "--state-dir", str(state), *flags]
    with child(arguments, log, {**os.environ, **(env or {})}) as (url, process):
        yield Server(url, state, log, process)


@pytest.fixture(scope="session", autouse=True)
def beside(request, tmp_path_factory) -> Iterator[Future | None]:
    """The steps of the image, minutes of one core: where a test wants them they are taken beside the tests before it."""
    if not any("image" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    from tests.test_dockerfile import replay

    root = tmp_path_factory.mktemp("image")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: (root, replay("cpu", root)))


@pytest.fixture
def image(beside) -> tuple[Path, dict[str, str]]:
    """Where the steps of the CPU image were taken, and the environment it would have."""
    return beside.result()


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
