"""The model check: whether the files of a model can be served, before an engine is started for it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import models
from guard.errors import SirlError
from online.model.checkpoint import CONFIG, configuration


class ModelCheckError(SirlError):
    """A model that cannot be served; one sentence with cause and mend."""


def resolve(model: str | None, *, checked: bool = True) -> str:
    """A model's folder or hub name; without one, the bundled model. Raises ModelCheckError or CheckpointError for a
    folder that is unsound, unless that is to be found out later (`checked` is false)."""
    if model is None:
        return str(models.bundled())
    path = Path(model).expanduser()
    if path.is_dir():
        if checked:
            check(path)
        return str(path.resolve())
    if path.exists():
        raise ModelCheckError(f"The model {model} is a file: give the folder that holds config.json and the weights.")
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelCheckError(f"There is no model at {model}: give an existing folder or a hub name such as org/name.")
    return model


def check(folder: Path) -> None:
    """Raise ModelCheckError or CheckpointError unless the folder has a readable config, a tokenizer and whole safetensors
    files."""
    if not configuration(folder).get("architectures"):
        raise ModelCheckError(f"{folder / CONFIG} names no architecture: fetch the model again.")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")):
        raise ModelCheckError(f"{folder} has no tokenizer: put the model's tokenizer files beside its weights.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelCheckError(f"{folder} has no *.safetensors: other weight formats can run code and are not served.")
    for file in weights:
        check_weights(file)


def check_weights(file: Path) -> None:
    """Raise ModelCheckError unless a safetensors file is as long as its header says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError("the header is cut off")
            header = json.loads(stream.read(length))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelCheckError(f"{file} is not a safetensors file ({error}): fetch the model again.") from None
    if size != 8 + length + end:
        raise ModelCheckError(f"{file} is {size} bytes and should be {8 + length + end}: fetch the model again.")
