"""The harm sense: how harmful a model finds a request, read linearly from its residual stream around the prompt's end.

    h = bias + sum over places p and layers l of weights[p, l] . x[p, l]

A model knows more of a request than its refusal says (arXiv 2507.11878: harmfulness and refusal are encoded apart). h is
fitted at calibration (`online.calibration.sense`); here it is only read. Standardisation is folded into weights and bias.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guard.errors import SirlError
from guard.openings import Tokens

FORMAT = 2
Place = Literal["prompt_end", "user_end"]
Band = Literal["harmful", "grey", "harmless"]


class SenseError(SirlError, ValueError):
    """A sense that cannot be read or used; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What a chat template puts behind a user's words, up to where the answer begins. tokens: that; marks: those of them
    that stand in no text, and so mark a turn."""

    tokens: Tokens = ()
    marks: frozenset[int] = frozenset()

    def behind_words(self, prompt: Sequence[int]) -> int | None:
        """How many tokens of a prompt stand behind the last one of its user's words: these, and an answer that a template or
        a client has begun. None where they are not there, or another turn was begun behind them."""
        tokens = np.asarray(prompt)
        for at in np.flatnonzero(tokens == self.tokens[0])[::-1].tolist() if self.tokens else ():
            end = at + len(self.tokens)
            if at and tuple(tokens[at:end].tolist()) == self.tokens:
                return None if np.isin(tokens[end:], list(self.marks)).any() else len(tokens) - at
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Sense:
    """A linear read-out of harm: h is the log-odds that the request is harmful.

    layers: x[p, l] is the residual stream after decoder layer l, counted from 1 and before the final norm (transformers'
    `hidden_states[l]`); weights: (places, layers, hidden), float32; harmless: h at and under which a request counts as
    harmless; harmful: h at and over which it counts as harmful; needless: h at and under which a refusal counts as needless,
    whose promise is about harmful requests that the model refuses. None where the promise of one cannot be kept. places:
    "prompt_end" is the last token of the prompt, where a model weighs its answer, and "user_end" the last token of the
    user's words, where it has just read them (arXiv 2507.11878). turn_end: what stands between the two. A prompt that has
    not each place has no h.
    """

    layers: tuple[int, ...]
    weights: NDArray[np.float32]
    bias: float
    harmless: float | None = None
    harmful: float | None = None
    needless: float | None = None
    places: tuple[Place, ...] = ("prompt_end",)
    turn_end: TurnEnd = TurnEnd()

    def __post_init__(self) -> None:
        weights = np.ascontiguousarray(self.weights, np.float32)
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 1:
            raise SenseError(f"The layers {list(self.layers)} are no ascending numbers from 1: calibrate again.")
        if unknown := set(self.places) - set(get_args(Place)):
            raise SenseError(f"The place {unknown.pop()!r} is not known to this sirl-guard: upgrade it, or calibrate again.")
        count = len(self.places), len(self.layers)
        if not all(count) or len(set(self.places)) != count[0] or weights.shape[:-1] != count or not weights.shape[-1]:
            raise SenseError(
                f"Weights of shape {weights.shape} do not fit {count[0]} places and {count[1]} layers: calibrate again."
            )
        known = [self.bias, *(limit for limit in (self.harmless, self.harmful, self.needless) if limit is not None)]
        if not (np.isfinite(weights).all() and all(map(math.isfinite, known))):
            raise SenseError("A weight, the bias or a threshold is not a finite number: calibrate again.")
        if None not in (self.harmless, self.harmful) and not known[1] < known[2]:
            raise SenseError(
                f"The thresholds {known[1]} (harmless) and {known[2]} (harmful) are out of order: calibrate again."
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sense) and self.to_json() == other.to_json()

    @property
    def hidden(self) -> int:
        """Width of the stream."""
        return int(self.weights.shape[-1])

    def back(self, prompt: Sequence[int]) -> tuple[int | None, ...]:
        """How many tokens each place lies before the prompt's last one; None of one that the prompt has not."""
        return tuple(0 if place == "prompt_end" else self.turn_end.behind_words(prompt) for place in self.places)

    def read(self, states: ArrayLike) -> float | None:
        """h of the streams (places, layers, hidden) of a prompt; None where one of them is not finite, for nothing was read
        then. Raises SenseError for streams of another shape, which are another model's."""
        states = np.asarray(states, np.float64)
        if states.shape != self.weights.shape:
            raise SenseError(
                f"Streams of shape {states.shape} do not fit weights of {self.weights.shape}: calibrate this model."
            )
        if not np.isfinite(states).all():
            return None
        return self.bias + float(np.vdot(self.weights.astype(np.float64), states))

    def probability(self, h: float | None) -> float | None:
        """Of the request being harmful, 0 to 1; None where h was not read."""
        if h is None or math.isnan(h):
            return None
        return 1 / (1 + math.exp(-h)) if h > -700 else 0.0

    def band(self, h: float | None) -> Band:
        """What the request counts as; grey where h was not read, and where no promise could be kept on its side."""
        if h is None or math.isnan(h):
            return "grey"
        if self.harmful is not None and h >= self.harmful:
            return "harmful"
        return "harmless" if self.harmless is not None and h <= self.harmless else "grey"

    def over_refused(self, h: float | None) -> bool:
        """Whether a refusal of the request was needless; not where h was not read."""
        return h is not None and self.needless is not None and h <= self.needless

    def to_json(self) -> dict[str, object]:
        """Weights as base64 of little-endian float32, some 5 KB a layer of 900: they are read as they were fitted. In
        float16 the smallest would lose digits, for the widths of a stream are of very different size."""
        return {
            "format": FORMAT,
            "places": list(self.places),
            "turn_end": {"tokens": list(self.turn_end.tokens), "marks": sorted(self.turn_end.marks)},
            "layers": list(self.layers),
            "weights": base64.b64encode(self.weights.astype("<f4").tobytes()).decode("ascii"),
            "bias": self.bias,
            "harmless": self.harmless,
            "harmful": self.harmful,
            **({} if self.needless is None else {"needless": self.needless}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sense:
        """Raises SenseError, a ValueError: of a newer format, or what is not as `to_json` writes it. Of format 1 there is
        one place."""
        if not isinstance(data, Mapping) or type(found := data.get("format")) is not int:
            raise SenseError("The sense has no format number: calibrate again.")
        if found not in (1, FORMAT):
            raise SenseError(
                f"The sense has the format {found}, and this sirl-guard reads {FORMAT}: upgrade, or calibrate again."
            )
        try:
            places: Any = (data["place"],) if found == 1 else tuple(map(str, data["places"]))
            tokens, marks = (tuple(map(int, () if found == 1 else data["turn_end"][name])) for name in ("tokens", "marks"))
            layers = tuple(map(int, data["layers"]))
            raw = np.frombuffer(base64.b64decode(data["weights"], validate=True), "<f4")
            limits = [data["harmless"], data["harmful"], data.get("needless")]
            harmless, harmful, needless = (None if limit is None else float(limit) for limit in limits)
            bias = float(data["bias"])
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise SenseError(
                f"The sense is not as it was written ({type(error).__name__}: {error}): calibrate again."
            ) from None
        if not (streams := len(places) * len(layers)) or len(raw) % streams:
            raise SenseError(
                f"{len(raw)} weights are no equal shares of {len(places)} places and {len(layers)} layers: calibrate again."
            )
        weights = raw.reshape(len(places), len(layers), -1).astype(np.float32)
        return cls(layers, weights, bias, harmless, harmful, needless, places, TurnEnd(tokens, frozenset(marks)))
