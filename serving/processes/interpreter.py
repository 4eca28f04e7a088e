"""The interpreter of our own processes: this one, with the code that starts them, whatever the working directory holds."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Where our packages lie: site-packages, or a checkout."""


def command(module: str, *arguments: str) -> list[str]:
    """The words that run a module of ours. Without -P the working directory comes first, and a `guard.py` there is ours."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment (None: ours) of such a process and of all that it starts, such as vLLM's workers.

    A checkout that is not installed is named in PYTHONPATH, for the working directory no longer finds it. An empty entry
    there means the working directory to Python, and goes. So does PROMETHEUS_MULTIPROC_DIR where it is inherited: a
    learner's own engine would write its gauges over the server's.
    """
    variables = dict(os.environ if given is None else given)
    if given is None:
        variables.pop("PROMETHEUS_MULTIPROC_DIR", None)
    places = [place for place in variables.get("PYTHONPATH", "").split(os.pathsep) if place]
    if str(ROOT) not in {*places, *map(sysconfig.get_path, ("purelib", "platlib"))}:
        places.insert(0, str(ROOT))
    return variables | {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(places)}
