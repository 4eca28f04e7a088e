"""The server process: `sirl serve` as a child, for the demo and for the learner's own engine."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import httpx

import models
from guard.errors import SirlError
from online.settings.settings import Settings
from online.state.directory import StateDir
from serving.processes import interpreter

START_LIMIT_S = 600.0


@contextmanager
def own_engine(settings: Settings, model: Path) -> Iterator[StateDir]:
    """An engine for one update's rollouts alone, of the same model, with a state directory of its own; yields that.

    Raises SirlError when it does not start.
    """
    state = StateDir(settings.state_dir / "own-engine")
    named = [] if model == models.bundled() else [str(model)]
    flags = ["--rollouts-only", "--update-rollouts", "engine", "--update-lora-rank", str(settings.update.lora_rank)]
    flags += conditions(settings)
    flags += ["--registry-url", "none", "--state-dir", str(state.path), *shlex.split(settings.update.engine_flags)]
    with child([*named, *flags], state.path / "server.log"):
        yield state


def conditions(settings: Settings) -> list[str]:
    """The flags under which the model is served here too."""
    flags = ["--dtype", settings.dtype] if settings.dtype != "auto" else []
    if settings.chat_template is not None:
        flags += ["--chat-template", settings.chat_template]
    if settings.chat_template_kwargs:
        flags += ["--chat-template-kwargs", json.dumps(settings.chat_template_kwargs)]
    return flags


@contextmanager
def child(
    arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`sirl serve` with these arguments as a child process on this port, or a free one: (its URL, the process) once it is
    healthy.

    When the block ends it is told to drain and, if that takes too long, killed with all it started; should we be killed, it
    reads the end of its standard input and stops. SirlError when it ends or does not answer before it was healthy.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port or 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            interpreter.command("serving", "serve", *arguments, "--port", str(port), "--while-parent"),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=interpreter.environment(env),
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(url, process, log)
        yield url, process
    finally:
        with process:  # closes its standard input
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when /health answers; SirlError when the server ended or took too long."""
    deadline = monotonic() + START_LIMIT_S
    while monotonic() < deadline:
        if process.poll() is not None:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise SirlError(f"The server did not start ({last}): its log is {log}.")
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        sleep(0.25)
    raise SirlError(f"The server did not answer within {START_LIMIT_S:.0f} s: its log is {log}.")
