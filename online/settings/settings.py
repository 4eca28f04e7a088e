"""Every setting, in one model: defaults < TOML file < SIRL_* environment < command-line flags."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from online.settings.groups import (
    BufferSettings,
    CalibrateSettings,
    GateSettings,
    Group,
    GuardSettings,
    LearnSettings,
    NoneAware,
    QueueSettings,
    RegistrySettings,
    ReleaseSettings,
    UpdateSettings,
)


def _object(value: object) -> object:
    """JSON, as the environment and flags have it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() and value.strip().lower() != "none" else {}
    except ValueError:
        raise ValueError('write a JSON object such as {"enable_thinking": false}') from None


def default_state_dir(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_STATE_HOME")
    return (Path(home) if home else Path("~/.local/state").expanduser()) / "sirl-guard"


class Settings(Group):
    """What the operator chose; immutable for the life of the process."""

    state_dir: Path = Field(
        default_factory=lambda: default_state_dir(os.environ),
        description="Directory of the buffer, the adapters and the keys; created with mode 0700.",
    )
    chat_template: Annotated[str | None, NoneAware] = Field(
        default=None,
        description="Chat template in place of the model's own: a Jinja file, or the template itself; as `vllm serve` takes "
        "it, for calibrating and learning too.",
    )
    chat_template_kwargs: Annotated[dict[str, Any], BeforeValidator(_object)] = Field(
        default={},
        description="What the chat template is given beside the messages (a table or JSON), such as "
        '{"enable_thinking": false}; as `vllm serve` takes --default-chat-template-kwargs, for calibrating and learning.',
    )
    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] = Field(
        default="auto",
        description="Precision to serve, calibrate and learn in, as `vllm serve` takes it; auto: what is fast and exact for "
        "the checkpoint on this machine.",
    )
    guard: GuardSettings = Field(default=GuardSettings(), description="What clients and administrators see.")
    buffer: BufferSettings = Field(default=BufferSettings(), description="What is kept of the traffic.")
    queue: QueueSettings = Field(default=QueueSettings(), description="What of it may teach: quotas and quarantine.")
    calibrate: CalibrateSettings = Field(
        default=CalibrateSettings(), description="What the guard's thresholds promise, class by class of benign prompts."
    )
    update: UpdateSettings = Field(default=UpdateSettings(), description="How one update learns.")
    gate: GateSettings = Field(default=GateSettings(), description="What a candidate must hold to be promoted.")
    release: ReleaseSettings = Field(
        default=ReleaseSettings(), description="How a version that passed its gate comes to serve."
    )
    learn: LearnSettings = Field(default=LearnSettings(), description="When updates run.")
    registry: RegistrySettings = Field(
        default=RegistrySettings(), description="Who vouches for adapters, where they are shared, how long they are kept."
    )

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()
