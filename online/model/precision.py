"""Precision: the dtype that is fast and exact for a checkpoint on this machine, to serve, calibrate and learn in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from online.model.checkpoint import configuration

SYNONYMS = {"half": "float16", "float": "float32"}
"""vLLM's other names of dtypes."""
STORED = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What safetensors calls the dtypes of weights; fp64 is computed in fp32."""
CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of /proc/cpuinfo: bf16 products in hardware, on x86 and (the last) on ARM. Without them bf16 takes four times as long."""
OVERFLOWING = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Model types whose activations are too large for float16, in which vLLM refuses them (its vllm/config/model.py)."""
SMALL = 1 << 28
"""Bytes of weights up to which rounding gains no speed anywhere."""
AMPERE = (8, 0)
"""The first compute capability of NVIDIA's with bf16 products."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a model is computed: on a GPU or on CPUs, and whether in bf16 at full speed."""

    gpu: bool
    bf16: bool

    @classmethod
    def here(cls, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
        if torch.cuda.is_available():
            return cls(True, torch.version.hip is not None or torch.cuda.get_device_capability() >= AMPERE)
        try:
            lines = cpuinfo.read_text(errors="replace").splitlines()
        except OSError:
            return cls(False, False)
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
        return cls(False, bool(flags & CPU_FLAGS))


@dataclass(frozen=True, slots=True)
class Precision:
    """A dtype such as "float32", and why it."""

    dtype: str
    why: str

    @property
    def torch(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found


def precision_for(folder: Path, given: str = "auto", machine: Callable[[], Machine] = Machine.here) -> Precision:
    """The dtype that the operator gives, or with "auto" that of the machine for the checkpoint in a folder. Raises
    CheckpointError."""
    if given != "auto":
        return Precision(SYNONYMS.get(given, given), "it was given")
    stored, size = stored_in(folder)
    if size <= SMALL:
        return Precision("float32", "the weights are few, and it holds them exactly")
    here = machine()
    if not here.gpu:
        if stored != "bfloat16":
            return Precision("float32", f"the weights are in {stored}, which float32 holds exactly, and CPUs are fast in it")
        if here.bf16:
            return Precision("bfloat16", "the weights are in it and this CPU computes in it")
        return Precision("float32", "it holds the weights exactly and this CPU has no bfloat16 products")
    overflows = model_type(folder) in OVERFLOWING
    if stored == "float16" and not overflows:
        return Precision("float16", "the weights are in it")
    if here.bf16:
        return Precision("bfloat16", f"the weights are in {stored} and this GPU is fastest in it")
    if overflows:
        return Precision("float32", "this GPU has no bfloat16 products and the model overflows in float16")
    return Precision("float16", f"the weights are in {stored} and this GPU has no bfloat16 products")


def model_type(folder: Path) -> str | None:
    """What a checkpoint's configuration calls the model, such as "gemma2"; None where it tells nothing. Raises
    CheckpointError."""
    found: str | None = configuration(folder).get("model_type")
    return found


def stored_in(folder: Path) -> tuple[str, int]:
    """(the dtype that most of a checkpoint's bytes are in, how many bytes it has), by its safetensors files; float32 where
    they tell none that is computed in, as of quantised weights."""
    sizes: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__" and (dtype := STORED.get(entry["dtype"])):
                start, end = entry["data_offsets"]
                sizes[dtype] = sizes.get(dtype, 0) + end - start
    return max(sizes, key=lambda dtype: sizes[dtype], default="float32"), sum(sizes.values())
