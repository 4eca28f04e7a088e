"""`sirl` as its users run it, forked from one process that has imported everything: it begins at once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

if find_spec("vllm") is None:
    raise ModuleNotFoundError("No module named 'vllm'")  # and not in a process of its own, where nobody reads it

PRELOADED = (
    "tests.serving.environment",  # before vLLM reads it
    "serving.cli.main",
    "serving.engine.server",
    "serving.app",
    "serving.model_check",
    "online.operations.updates",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.launchers.launcher",
    "vllm.engine.arg_utils",
)
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(PRELOADED))


def sirl(*words: str, env: dict[str, str] | None = None, limit: float = 120.0) -> subprocess.CompletedProcess:
    """Exit status, standard output and standard error of one command in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="sirl-command-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = context.Process(target=command, args=(words, env or {}, str(out), str(err)))
        process.start()
        process.join(limit)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, limit, err.read_bytes())
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def command(words: tuple[str, ...], env: dict[str, str], out: str, err: str) -> None:
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.environ |= env
    from serving.cli.main import main

    raise SystemExit(main(words))
