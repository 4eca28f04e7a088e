"""The checkpoint: a model's folder, and what its `config.json` says of the weights beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guard.errors import SirlError

CONFIG = "config.json"


class CheckpointError(SirlError):
    """A folder whose configuration is missing or cannot be read; one sentence with cause and mend."""


def configuration(folder: Path) -> dict[str, Any]:
    """What a model's folder says of it, as `save_pretrained` writes it. Raises CheckpointError."""
    file = folder / CONFIG
    try:
        found = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder} has no {CONFIG}, so it is not a model: give a Hugging Face model folder.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{file} cannot be read ({reason}): fetch the model again.") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} cannot be read (it is no JSON object): fetch the model again.")
    return found
