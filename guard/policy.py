"""Guard policies: the operator's default, what a key is given, and what a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Mode(StrEnum):
    """observe: measure and report, touch nothing. enforce: act on what the rule touches."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class Action(StrEnum):
    """What is done, or was done, about a response."""

    NONE = "none"
    HALT = "halt"
    REGENERATE = "regenerate"
    ROUTE = "route"
    REDRAW = "redraw"
    """An over-refusal was drawn again. No policy's action: `OverRefusal` is."""


CHOOSABLE = (Action.HALT, Action.REGENERATE, Action.ROUTE)
"""What a policy may do about a response that the rule touches."""


class OverRefusal(StrEnum):
    """What is done about a refusal of what the harm sense calls harmless, under enforcement."""

    LEAVE = "leave"
    REDRAW = "redraw"


class Leeway(StrEnum):
    """What a request may change of its policy: nothing, only towards more guarding, or anything."""

    NOTHING = "nothing"
    TIGHTEN = "tighten"
    ANYTHING = "anything"


class PolicyError(ValueError):
    """A request asks for what its policy does not allow; one sentence."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How responses are treated.

    threshold: a refusal mass (probability) of its own above which a response is touched; None: the calibrated rule.
    over_refusal: what becomes of refusals of requests that the harm sense calls harmless. trusted: may see verdicts, masses
    and entropies under enforce, which to an attacker are an oracle.
    """

    mode: Mode = Mode.OBSERVE
    action: Action = Action.HALT
    threshold: float | None = None
    trusted: bool = False
    leeway: Leeway = Leeway.TIGHTEN
    over_refusal: OverRefusal = OverRefusal.LEAVE

    @property
    def enforces(self) -> bool:
        return self.mode is Mode.ENFORCE

    def asked(self, mode: Mode | None, action: Action | None, threshold: float | None) -> Policy:
        """This policy with what a request asks for. Raises PolicyError for what its leeway does not cover."""
        wanted = replace(
            self,
            mode=self.mode if mode is None else mode,
            action=self.action if action is None else action,
            threshold=self.threshold if threshold is None else threshold,
        )
        if wanted == self or self.leeway is Leeway.ANYTHING:
            return wanted
        if self.leeway is Leeway.NOTHING:
            raise PolicyError("mode, action and threshold are the operator's on this endpoint: leave them out.")
        if self.enforces and not wanted.enforces:
            raise PolicyError("the mode may only be tightened, to enforce: leave it out.")
        if self.enforces and wanted.action is not self.action:
            raise PolicyError("the action may not be changed where the endpoint enforces: leave it out.")
        if self.enforces and threshold is not None and (self.threshold is None or threshold > self.threshold):
            raise PolicyError("the threshold may only be lowered from the one this key was given: leave it out.")
        return wanted
