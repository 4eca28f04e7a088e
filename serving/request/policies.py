"""Policies of keys: a request gets the operator's default, or its key's own from the policies' file."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guard.policy import Action, Leeway, Mode, OverRefusal, Policy
from online.settings.groups import GuardSettings
from online.settings.load import SettingsError


class KeyPolicy(BaseModel):
    """The table of one key: [keys.<SHA-256 of the key, hex>]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: bool = False
    """Never touched, whatever else is said."""
    mode: Mode | None = None
    action: Literal["halt", "regenerate", "route"] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    trusted: bool = False
    leeway: Leeway | None = None
    over_refusal: OverRefusal | None = None


class PoliciesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: dict[Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")], KeyPolicy] = {}


class Policies:
    """Looks a key's policy up. Raises SettingsError for a file that cannot be used."""

    def __init__(self, settings: GuardSettings) -> None:
        self.route_to = settings.route_to
        self.default = Policy(settings.mode, settings.action, leeway=settings.leeway, over_refusal=settings.over_refusal)
        self.keys = {digest.lower(): self._of(given) for digest, given in read(settings.policies).items()}

    def _of(self, given: KeyPolicy) -> Policy:
        default = self.default
        return Policy(
            mode=Mode.OBSERVE if given.allow else given.mode or default.mode,
            action=Action(given.action) if given.action else default.action,
            threshold=given.threshold,
            trusted=given.trusted,
            leeway=Leeway.NOTHING if given.allow and given.leeway is None else given.leeway or default.leeway,
            over_refusal=given.over_refusal or default.over_refusal,
        )

    def of(self, key: bytes) -> Policy:
        """The policy of an API key; empty: of a client without one."""
        return self.keys.get(hashlib.sha256(key).hexdigest(), self.default) if self.keys else self.default


def read(path: Path | None) -> dict[str, KeyPolicy]:
    if path is None:
        return {}
    try:
        return PoliciesFile.model_validate(tomllib.loads(path.read_text("utf-8"))).keys
    except OSError as error:
        raise SettingsError(f"the policies {path} cannot be read ({error.strerror}); check guard.policies.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the policies {path} are not valid TOML ({error}); correct them.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part)[:12] for part in first["loc"])
        raise SettingsError(f"the policies {path} cannot be used ({where}: {first['msg']}); correct them.") from None
