"""Prometheus' own checker, for our files and for live scrapes. Debian has it in the package `prometheus`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool with `text` as input; without promtool, tests skip, or fail if CI is `true`."""
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is not on PATH: install Debian's package `prometheus`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    command = [program, *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=240, check=False)


def check_exposition(text: str) -> None:
    """Assert that a scrape's text parses and that promtool finds no fault with our metrics in it.

    vLLM's metrics share the page; what promtool says of their names is not ours to mend and is left out.
    """
    assert "\nsirl_" in f"\n{text}", "no metric of ours in the exposition"
    result = promtool("check", "metrics", text=text)
    output = result.stdout + result.stderr
    # promtool exits with 0 when all is well, with 3 when the text parses and it finds fault with some metric.
    assert result.returncode in (0, 3), output
    ours = [line for line in output.splitlines() if "sirl_" in line]
    assert not ours, "\n".join(ours)
