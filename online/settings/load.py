"""Reading the settings: defaults < TOML file < SIRL_* environment < command-line flags."""

import argparse
import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from guard.errors import SirlError
from online.settings.key import PREFIX, TOP, Key, keys
from online.settings.settings import Settings, default_state_dir

CONFIG_ENV = "SIRL_CONFIG"
# Variables that our own processes hand each other; they are no settings.
INTERNAL_PREFIX = "SIRL_INTERNAL_"


class SettingsError(SirlError):
    """A setting that is unknown, malformed or out of range."""


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
    return f"; did you mean {close[0]}" if close else "; docs/reference/settings.md lists them all"


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
