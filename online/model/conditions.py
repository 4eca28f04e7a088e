"""Conditions: the chat template, dtype and quantisation that a model runs under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from guard.errors import SirlError
from online.model.checkpoint import configuration


class TemplateError(SirlError):
    """A chat template that is not there or cannot be used; one sentence with cause and mend."""


def read_template(given: str | None) -> str | None:
    """The text of a chat template given as vLLM takes it: a file, or the template itself. Raises TemplateError."""
    if given is None or any(sign in given for sign in "{}\n"):
        return given
    try:
        return Path(given).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise TemplateError(f"The chat template {given} cannot be read ({reason}): give a Jinja file.") from None


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text of a tokenizer's chat template; None where it has none."""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError:
        return None


def declared_quantization(folder: Path) -> str | None:
    """The method that the files in a model's folder declare. Raises CheckpointError."""
    return quantization_of(configuration(folder).get("quantization_config"))


def quantization_of(declared: Any) -> str | None:
    """The method that a model's configuration declares for its weights (a dictionary, or what transformers makes of it)."""
    method = declared.get("quant_method") if isinstance(declared, dict) else getattr(declared, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))
