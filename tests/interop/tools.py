"""Programs we did not write: each installed when asked for, by exact pins and apart from all else, and run with a limit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache/interop"
INSTALL_LIMIT_S = 840
QUIET = {
    "PATH": os.environ["PATH"],
    "LANG": "C.UTF-8",
    "NO_COLOR": "1",
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
"""All a program is told: no keys, no proxies and no settings of whoever runs the tests, and nothing of a hub."""


def venv(tool: str) -> Path:
    """The Python of `tool`'s own environment, made anew when its pins changed; the test fails where it cannot be."""
    pins, folder = HERE / f"requirements/{tool}.txt", CACHE / tool
    python = folder / "bin/python"

    def make() -> None:
        attempt([sys.executable, "-m", "venv", str(folder)], tool)
        attempt([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)], tool)

    return installed(folder, pins, make, python)


def npm(tool: str) -> Path:
    """The command `tool` of the npm package of that name, installed likewise; beside it lies the Node.js it needs."""
    pins, folder = HERE / f"requirements/{tool}.json", CACHE / tool

    def make() -> None:
        if shutil.which("npm") is None:
            pytest.fail(f"{tool} needs Node.js and npm: install them (apt-get install nodejs npm).", pytrace=False)
        folder.mkdir(parents=True)
        shutil.copy(pins, folder / "package.json")
        attempt(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"], tool)

    return installed(folder, pins, make, folder / "node_modules/.bin" / tool)


def installed(folder: Path, pins: Path, make: Callable[[], None], command: Path) -> Path:
    """`command` in `folder`, after `make` where the folder was not made from these pins and this Python."""
    stamp, wanted = folder / ".installed", sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        make()
        stamp.write_text(wanted)
    return command


def attempt(command: list[str], tool: str) -> None:
    """One step of an installation."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{tool} was not installed within {INSTALL_LIMIT_S} s.", pytrace=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower() and "log of this run" not in line]
        reason = said[-1] if said else f"status {done.returncode}"
        pytest.fail(f"{tool} could not be installed from its pins: {reason}", pytrace=False)


def run(*command: str | Path, home: Path, limit: float = 240, env: Mapping[str, str] | None = None, ok: int = 0) -> str:
    """What a program printed; the test fails where it ends with another status than `ok`. Its files lie in `home`."""
    environment = {**QUIET, "HOME": str(home), **(env or {})}
    done = subprocess.run(
        [str(word) for word in command], cwd=home, env=environment, capture_output=True, text=True, timeout=limit
    )
    assert done.returncode == ok, f"status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def client(tool: str, *arguments: str, home: Path, limit: float = 240) -> dict:
    """What `clients/<tool>_client.py` made of the endpoint, as JSON on the last line of its output."""
    script = HERE / f"clients/{tool}_client.py"
    return json.loads(run(venv(tool), "-I", script, *arguments, home=home, limit=limit).splitlines()[-1])
