"""The release record: a version on its way to serve, as live.json keeps it."""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["shadow", "canary"]


@dataclass(frozen=True, slots=True)
class Release:
    """A version on its way to serve: it answers a share of live prompts unseen ("shadow"), or a share of clients get it
    ("canary")."""

    version: int
    stage: Stage
    share: float
