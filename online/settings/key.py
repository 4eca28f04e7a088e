"""One setting and its names in file, environment and command line."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from online.settings.groups import (
    Group,
)
from online.settings.settings import Settings

PREFIX = "SIRL_"
TOP = "top"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting and its three names: `learn.cron` in the file, SIRL_LEARN_CRON, --learn-cron."""

    group: str
    field: str
    info: FieldInfo

    @property
    def path(self) -> str:
        return self.field if self.group == TOP else f"{self.group}.{self.field}"

    @property
    def env(self) -> str:
        return PREFIX + self.path.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        return "--" + self.path.replace(".", "-").replace("_", "-")

    @property
    def dest(self) -> str:
        return "sirl_" + self.path.replace(".", "_")

    @property
    def default(self) -> str:
        if self.info.default is PydanticUndefined:
            return "`$XDG_STATE_HOME/sirl-guard`, or `~/.local/state/sirl-guard`"
        value = self.info.default
        if value is None or value == ():
            return "none"
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def keys() -> Iterator[Key]:
    """Every setting, in the order of the reference page."""
    for name, info in Settings.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, Group):
            yield from (Key(name, field, inner) for field, inner in group.model_fields.items())
        else:
            yield Key(TOP, name, info)
