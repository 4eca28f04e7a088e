"""The check of a PEFT adapter from outside: its files are read as data, and nothing in them is run."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from guard.errors import SirlError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

_PREFIX = "base_model.model."
_CONFIG_MAX_BYTES = 1 << 20
_DTYPES = {"F32", "F16", "BF16"}
# What a served adapter's configuration says. All else is dropped: PEFT imports modules that some keys name.
_KEPT = ("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora")
_FIXED = {"bias": "none", "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True}
# Kinds of LoRA that change more than a product of two matrices, and that the engine cannot serve.
_REFUSED = (
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)
_PLAIN_INITS = (None, True, False, "gaussian", "eva", "orthogonal")


class AdapterError(SirlError):
    """An adapter that cannot be served."""


def check_listing(directory: Path) -> None:
    """The two files are there, and nothing that a loader would unpickle.

    Raises:
        AdapterError
    """
    if not directory.is_dir():
        raise AdapterError(f"{directory} is not a directory; name the one that PEFT's save_pretrained wrote.")
    pickles = sorted(file.name for file in directory.iterdir() if file.suffix.lower() in PICKLES)
    if pickles:
        raise AdapterError(
            f"{directory} holds {pickles[0]}, a pickle that could run code when loaded; save the adapter as "
            "safetensors and remove that file."
        )
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise AdapterError(f"{directory} has no {name}; save the adapter again with PEFT's save_pretrained.")


def base_shapes(model_dir: Path) -> dict[str, tuple[int, ...]]:
    """Module name -> shape (out, in) of its weight, from the headers of the base's safetensors files.

    Raises:
        AdapterError: the base cannot be read.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(model_dir.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():
                    if name.endswith(".weight"):
                        shapes[name.removesuffix(".weight")] = tuple(tensors.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise AdapterError(f"the base's {file} cannot be read ({error}); restore that file.") from error
    if not shapes:
        raise AdapterError(f"the base {model_dir} has no *.safetensors; name the directory of a saved model.")
    return shapes


def checked_config(directory: Path, max_rank: int) -> dict[str, Any]:
    """The configuration as it will be served: what is needed of it and nothing else.

    Raises:
        AdapterError: not JSON, no plain LoRA, or a rank the engine has no room for.
    """
    path = directory / CONFIG
    try:
        if path.stat().st_size > _CONFIG_MAX_BYTES:
            raise AdapterError(f"{path} is over 1 MiB, which no adapter's configuration is; save it again.")
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} cannot be read as JSON ({error}); save the adapter again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise AdapterError(f"{path} does not describe a LoRA adapter; only peft_type LORA can be served.")
    for name in _REFUSED:
        if config.get(name):
            raise AdapterError(f"{path} sets {name}, which cannot be served; train a plain LoRA without it.")
    if config.get("bias", "none") != "none" or config.get("fan_in_fan_out"):
        raise AdapterError(f"{path} trains biases or transposed weights; train with bias='none' instead.")
    if config.get("init_lora_weights", True) not in _PLAIN_INITS:
        raise AdapterError(
            f"{path} was initialised with {config['init_lora_weights']!r}, which also changes the base; "
            "convert it with PEFT's path_initial_model_for_weight_conversion."
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise AdapterError(f"{path} has no valid rank r; save the adapter again.")
    if rank > max_rank:
        raise AdapterError(f"{path} has rank {rank}, over the {max_rank} that are served; raise --update-lora-rank.")
    if not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise AdapterError(f"{path} has no valid lora_alpha; save the adapter again.")
    return {name: config[name] for name in _KEPT if name in config} | _FIXED


def check_weights(directory: Path, rank: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every tensor is a finite LoRA matrix of this rank, one of a pair that fits a module of the base.

    Raises:
        AdapterError
    """
    path = directory / WEIGHTS
    found: dict[str, set[str]] = {}
    try:
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():
                matrix = tensors.get_slice(name)
                module, side = _check_matrix(path, name, tuple(matrix.get_shape()), rank, shapes)
                if matrix.get_dtype() not in _DTYPES:
                    raise AdapterError(f"{path} holds {name} as {matrix.get_dtype()}; save it as float32.")
                if not bool(torch.isfinite(tensors.get_tensor(name)).all()):
                    raise AdapterError(f"{path} holds values in {name} that are not finite; train it again.")
                found.setdefault(module, set()).add(side)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is truncated or no safetensors file ({_flat(error)}); copy it again in full.") from error
    if not found:
        raise AdapterError(f"{path} holds no tensors; save the adapter again.")
    for module, sides in found.items():
        if len(sides) != 2:
            raise AdapterError(f"{path} has only one of lora_A and lora_B for {module}; save the adapter again.")


def _check_matrix(
    path: Path, name: str, shape: tuple[int, ...], rank: int, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, str]:
    for side in ("lora_A", "lora_B"):
        ending = f".{side}.weight"
        if name.startswith(_PREFIX) and name.endswith(ending):
            break
    else:
        raise AdapterError(f"{path} holds {name}, which is no LoRA matrix; train a plain LoRA.")
    module = name.removeprefix(_PREFIX).removesuffix(ending)
    if module not in shapes or len(shapes[module]) != 2:
        raise AdapterError(f"{path} adapts {module}, which this base has not; train it on this base.")
    rows, columns = shapes[module]
    expected = (rank, columns) if side == "lora_A" else (rows, rank)
    if shape != expected:
        raise AdapterError(
            f"{path} holds {name} of shape {list(shape)}, not the {list(expected)} of this base at "
            f"rank {rank}; train it on the base that is served, or correct r."
        )
    return module, side


def check_recorded_base(directory: Path, base: str) -> None:
    """An adapter that one of our registries published says which base it is for.

    Raises:
        AdapterError: another one.
    """
    try:
        recorded = json.loads((directory / "manifest.json").read_text("utf-8"))["base"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # not published by us: its shapes decide
    if recorded != base:
        raise AdapterError(f"{directory} was trained on another base ({recorded}, not {base}); import one for this base.")


def copy_weights(source: Path, target: Path) -> None:
    """Copies the weights file; what is then checked is the copy, which nobody else can change."""
    with (source / WEIGHTS).open("rb") as reader, (target / WEIGHTS).open("xb") as writer:
        while chunk := reader.read(1 << 20):
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
