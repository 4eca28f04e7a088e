"""Every setting, in one model: defaults < TOML file < SIRL_* environment < command-line flags."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

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
