"""The served model: the base loaded as it is served, with the operator's dtype, chat template and its arguments."""

from __future__ import annotations

from pathlib import Path

from online.model.conditions import read_template
from online.model.local_model import LocalModel
from online.model.precision import precision_for
from online.settings.settings import Settings


def load_as_served(settings: Settings, folder: Path, dtype: str = "auto") -> LocalModel:
    """The model in a folder. dtype: another one than it is served in. Raises TemplateError, ModelError."""
    template = read_template(settings.chat_template)
    chosen = precision_for(folder, settings.dtype if dtype == "auto" else dtype)
    return LocalModel.load(
        folder,
        dtype=chosen.torch,
        device=settings.update.device,
        template=template,
        arguments=settings.chat_template_kwargs,
        memory_gib=settings.update.memory_gib,
    )


def load_to_learn(settings: Settings, folder: Path) -> LocalModel:
    """The model in a folder, in `update.dtype`: with "auto" as it is served, but in float32 where that is float16, whose
    gradients would vanish, for the loss is not scaled. Raises TemplateError, ModelError."""
    dtype = settings.update.dtype
    if dtype == "auto" and precision_for(folder, settings.dtype).dtype == "float16":
        dtype = "float32"
    return load_as_served(settings, folder, dtype)
