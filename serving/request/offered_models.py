"""Offered models: the versions that a client may ask for by name, NAME@base and NAME@v7.

To ask for the version that serves changes nothing. Any other is a way past what the learner taught, so it is the operator's
to open: by pinning it, or by the leeway or the trust that a key was given.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from guard.policy import Leeway, Policy
from serving.request.errors import RefusedRequest

BASE = "base"
VERSION = re.compile(r"base|v[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class OfferedModels:
    """names: of the model, as clients know it; live: the adapter that serves; pinned: versions that the operator keeps."""

    names: tuple[str, ...] = ()
    live: str = BASE
    pinned: tuple[str, ...] = ()

    @property
    def adapters(self) -> tuple[str, ...]:
        """All that anybody may ask for."""
        return tuple(dict.fromkeys((BASE, self.live, *self.pinned)))

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that come with them."""
        return tuple(f"{name}@{adapter}" for name in self.names for adapter in self.adapters)

    def opens(self, adapter: str, policy: Policy, *, internal: bool) -> bool:
        """Whether one who is under this policy may have this adapter."""
        if internal or policy.trusted or policy.leeway is Leeway.ANYTHING or adapter == self.live:
            return True
        return adapter in self.pinned and policy.leeway is not Leeway.NOTHING

    def asked(self, model: object, policy: Policy, *, internal: bool) -> str | None:
        """The adapter that a model's name asks for; None where it names none. Raises Refused for one that is not to be had:
        a name that is offered no more must not end at what serves now."""
        if not isinstance(model, str) or model in self.names:
            return None
        name, _, adapter = model.rpartition("@")
        if name not in self.names or not VERSION.fullmatch(adapter):
            return None
        if adapter not in self.adapters:
            message = f"The model {model[:100]} does not exist: /v1/models lists those that do."
            raise RefusedRequest(404, message, "NotFoundError")
        if not self.opens(adapter, policy, internal=internal):
            message = f"model: {model} is closed to this key, for it would pass by what serves: ask for {name} as it is."
            raise RefusedRequest(400, message)
        return adapter

    def closed(self, policy: Policy, *, internal: bool) -> frozenset[str]:
        """The names that one who is under this policy may not use."""
        shut = [adapter for adapter in self.adapters if not self.opens(adapter, policy, internal=internal)]
        return frozenset(f"{name}@{adapter}" for name in self.names for adapter in shut)


def without(body: bytes, closed: frozenset[str]) -> bytes:
    """A list of models less the closed ones; what is no such list stays as it is."""
    try:
        data = json.loads(body)
        data["data"] = [model for model in data["data"] if model["id"] not in closed]
    except (ValueError, TypeError, KeyError):
        return body
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
