"""What is installed: what `sirl --version` prints, and what a bug report needs first."""

from __future__ import annotations

import platform
from importlib import metadata

from serving.engine.version import EngineError, installed

ABSENT = "not installed"


def versions() -> str:
    """Four lines, a name and a version each: sirl-guard, vLLM (which build), torch and Python. Imports none of them."""
    try:
        distribution, version = installed()
        engine = f"{version} ({distribution})"
    except EngineError:
        engine = ABSENT
    found = (
        ("sirl-guard", of("sirl-guard")),
        ("vLLM", engine),
        ("torch", of("torch")),
        ("Python", platform.python_version()),
    )
    return "\n".join(f"{name} {version}" for name, version in found)


def of(distribution: str) -> str:
    """The version of an installed distribution, or that there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ABSENT
