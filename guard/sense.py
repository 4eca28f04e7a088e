"""The harm sense: how harmful a model finds a request, read linearly from its residual stream at the prompt's end.

    h = bias + sum_l weights[l] . x_l

A model knows more of a request than its refusal says (arXiv 2507.11878: harmfulness and refusal are encoded apart). h is
fitted at calibration (`online.calibration.sense`); here it is only read. Standardisation is folded into weights and bias.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guard.errors import SirlError

FORMAT = 1
Place = Literal["prompt_end"]
Band = Literal["harmful", "grey", "harmless"]


class SenseError(SirlError, ValueError):
    """A sense that cannot be read or used; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True, eq=False)
class Sense:
    """A linear read-out of harm: h is the log-odds that the request is harmful.

    layers: x_l is the residual stream after decoder layer l, counted from 1 and before the final norm (transformers'
    `hidden_states[l]`); weights: (layers, hidden), float32; harmless: h at and under which a request counts as harmless;
    harmful: h at and over which it counts as harmful; needless: h at and under which a refusal counts as needless, whose
    promise is about harmful requests that the model refuses. None where the promise of one cannot be kept. place: the last
    token of the prompt, which is computed for every request, under prefix caching too.
    """

    layers: tuple[int, ...]
    weights: NDArray[np.float32]
    bias: float
    harmless: float | None = None
    harmful: float | None = None
    needless: float | None = None
    place: Place = "prompt_end"

    def __post_init__(self) -> None:
        weights = np.ascontiguousarray(self.weights, np.float32)
        weights.setflags(write=False)
        object.__setattr__(self, "weights", weights)
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 1:
            raise SenseError(f"The layers {list(self.layers)} are no ascending numbers from 1: calibrate again.")
        if weights.ndim != 2 or len(weights) != len(self.layers) or not weights.shape[1]:
            raise SenseError(f"Weights of shape {weights.shape} do not fit {len(self.layers)} layers: calibrate again.")
        known = [self.bias, *(limit for limit in (self.harmless, self.harmful, self.needless) if limit is not None)]
        if not (np.isfinite(weights).all() and all(map(math.isfinite, known))):
            raise SenseError("A weight, the bias or a threshold is not a finite number: calibrate again.")
        if None not in (self.harmless, self.harmful) and not known[1] < known[2]:
            raise SenseError(
                f"The thresholds {known[1]} (harmless) and {known[2]} (harmful) are out of order: calibrate again."
            )
        if self.place not in get_args(Place):
            raise SenseError(f"The place {self.place!r} is not known to this sirl-guard: upgrade it, or calibrate again.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sense) and self.to_json() == other.to_json()

    @property
    def hidden(self) -> int:
        """Width of the stream."""
        return int(self.weights.shape[1])

    def read(self, states: ArrayLike) -> float | None:
        """h of the streams (layers, hidden) at the place; None where one of them is not finite, for nothing was read then.
        Raises SenseError for streams of another shape, which are another model's."""
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
            "place": self.place,
            "layers": list(self.layers),
            "weights": base64.b64encode(self.weights.astype("<f4").tobytes()).decode("ascii"),
            "bias": self.bias,
            "harmless": self.harmless,
            "harmful": self.harmful,
            **({} if self.needless is None else {"needless": self.needless}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sense:
        """Raises SenseError, a ValueError: of a newer format, or what is not as `to_json` writes it."""
        if not isinstance(data, Mapping) or type(found := data.get("format")) is not int:
            raise SenseError("The sense has no format number: calibrate again.")
        if found != FORMAT:
            raise SenseError(
                f"The sense has the format {found}, and this sirl-guard reads {FORMAT}: upgrade, or calibrate again."
            )
        try:
            layers = tuple(map(int, data["layers"]))
            raw = np.frombuffer(base64.b64decode(data["weights"], validate=True), "<f4")
            limits = [data["harmless"], data["harmful"], data.get("needless")]
            harmless, harmful, needless = (None if limit is None else float(limit) for limit in limits)
            bias, place = float(data["bias"]), data["place"]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise SenseError(
                f"The sense is not as it was written ({type(error).__name__}: {error}): calibrate again."
            ) from None
        if not layers or len(raw) % len(layers):
            raise SenseError(f"{len(raw)} weights are no equal shares of {len(layers)} layers: calibrate again.")
        weights = raw.reshape(len(layers), -1).astype(np.float32)
        return cls(layers, weights, bias, harmless, harmful, needless, place)
