"""The `guard` object of a request body: what a client may ask of the guard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class GuardOptions(BaseModel):
    """The `guard` object of a request body; unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    report: bool = True
    trace: bool = False
    mode: Literal["observe", "enforce"] | None = None
    action: Literal["halt", "regenerate", "route"] | None = None
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
