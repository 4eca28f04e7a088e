"""Every setting, in one model: defaults < TOML file < SIRL_* environment < command-line flags."""

import argparse
import difflib
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from guard.errors import SirlError
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

PREFIX = "SIRL_"
CONFIG_ENV = "SIRL_CONFIG"
# Variables that our own processes hand each other; they are no settings.
INTERNAL_PREFIX = "SIRL_INTERNAL_"
TOP = "top"


class SettingsError(SirlError):
    """A setting that is unknown, malformed or out of range."""


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


def add_arguments(parser: argparse.ArgumentParser, groups: Collection[str], *, config_flag: str = "--config") -> None:
    """Adds the flags of `groups` ("top" among them); only flags that were given reach the namespace.

    `config_flag` names the file's flag otherwise where the parser has a --config of its own (vLLM's does).
    """
    section = parser.add_argument_group("sirl-guard")
    section.add_argument(
        config_flag,
        dest="sirl_config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="TOML file of settings",
    )
    for key in keys():
        if key.group not in groups:
            continue
        text = (key.info.description or "").replace("%", "%%")
        if key.info.annotation is bool:
            section.add_argument(
                key.flag,
                dest=key.dest,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            section.add_argument(key.flag, dest=key.dest, metavar="VALUE", default=argparse.SUPPRESS, help=text)


def load(args: argparse.Namespace | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Settings from all four sources.

    Raises:
        SettingsError: an unknown key, a value out of range or a file that cannot be read.
    """
    given = vars(args) if args is not None else {}
    known = {key.env: key for key in keys()}
    named = given.get("sirl_config") or env.get(CONFIG_ENV)
    state_dir = given.get("sirl_state_dir") or env.get("SIRL_STATE_DIR") or default_state_dir(env)
    path = Path(named).expanduser() if named else Path(state_dir).expanduser() / "sirl.toml"
    values: dict[str, Any] = {"state_dir": default_state_dir(env)}
    sources: dict[str, str] = {}
    if named or path.is_file():
        _merge_file(values, sources, path)
    for variable in sorted(env):
        if not variable.startswith(PREFIX) or variable == CONFIG_ENV or variable.startswith(INTERNAL_PREFIX):
            continue
        if variable not in known:
            raise SettingsError(f"the environment variable {variable} is no setting of sirl{_nearest(variable, known)}.")
        _put(values, sources, known[variable], env[variable], f"the environment variable {variable}")
    for key in known.values():
        if key.dest in given:
            _put(values, sources, key, given[key.dest], f"the flag {key.flag}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_sentence(error.errors()[0], sources, path)) from None


def _put(values: dict[str, Any], sources: dict[str, str], key: Key, value: object, source: str) -> None:
    sources[key.path] = source
    (values if key.group == TOP else values.setdefault(key.group, {}))[key.field] = value


def _merge_file(values: dict[str, Any], sources: dict[str, str], path: Path) -> None:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"the settings file {path} cannot be read ({reason}); check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not valid TOML ({error}); correct it.") from None
    known = {key.path: key for key in keys()}
    groups = {key.group for key in known.values()} - {TOP}
    for name, value in table.items():
        if name in groups and not isinstance(value, dict):
            raise SettingsError(f"{name} in {path} must be a table; write [{name}] and its keys below it.")
        entries = {f"{name}.{field}": inner for field, inner in value.items()} if name in groups else {name: value}
        for entry, inner in entries.items():
            if entry not in known:
                raise SettingsError(f"{entry} in {path} is no setting of sirl{_nearest(entry, known)}.")
            _put(values, sources, known[entry], inner, f"{entry} in {path}")


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}" if close else "; docs/settings.md lists them all"


def _sentence(error: ErrorDetails, sources: Mapping[str, str], path: Path) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location[:2]) if location[0] in Settings.model_fields else location[0]
    if name not in sources and location[0] in sources:
        name = location[0]
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    # Secrets must not reach a log: neither the key nor a URL that may hold a password is repeated.
    hidden = name == "guard" or name.endswith("_key") or name.endswith(".url") or isinstance(value, (dict, SecretStr))
    was = "" if hidden else f", not {value!r}"
    return f"{sources.get(name, f'{name} in {path}')} cannot be used: {message[0].lower()}{message[1:]}{was}."


def reference() -> str:
    """The page docs/settings.md: every setting with its three names, default and meaning."""
    lines = [
        "# Settings",
        "",
        "From lowest to highest: the default, a TOML file, the environment, a command-line flag. The file is",
        f"the one named by `--config` (`--guard-config` for `sirl serve`) or `{CONFIG_ENV}`, else `sirl.toml`",
        "in the state directory if there is one. The word `none` empties a setting that may be empty.",
    ]
    heading = None
    for key in keys():
        if key.group != heading:
            heading = key.group
            about = "" if heading == TOP else f" [{heading}]"
            said = (
                "Where things are kept, and how prompts are written."
                if heading == TOP
                else Settings.model_fields[heading].description
            )
            lines += ["", f"##{about or ' Top level'}", "", said or "", ""]
            lines += ["| key | environment | flag | default | meaning |", "| --- | --- | --- | --- | --- |"]
        lines.append(f"| `{key.field}` | `{key.env}` | `{key.flag}` | {key.default} | {key.info.description} |")
    return "\n".join(lines) + "\n"
