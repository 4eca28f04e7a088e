"""Calibration: what the guard knows of one model and adapter: openings, bands, an entropy cut, a rule, a refusal."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from guard.errors import SirlError
from guard.files import write_whole
from guard.openings import Openings, Tokens
from guard.rule import Rule
from guard.sense import Sense
from guard.verdict import Verdict, decide

FORMAT = 2


class CalibrationError(SirlError):
    """A calibration that cannot be read; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Two thresholds on a refusal mass (a probability): below `low` is low, above `high` is high, between is grey."""

    low: float
    high: float

    def band(self, mass: float) -> str:
        """ "low", "grey" or "high"; NaN is grey, for an unknown must neither anchor nor teach."""
        if mass <= self.low:
            return "low"
        return "high" if mass > self.high else "grey"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bands:
        bands = cls(**data)
        if not (math.isfinite(bands.low + bands.high) and bands.low <= bands.high):
            raise ValueError(f"the bands {bands.low} and {bands.high} are out of order")
        return bands


def youden(positive: ArrayLike, negative: ArrayLike) -> float:
    """The threshold t that maximises P(positive > t) - P(negative > t) (Youden's J), midway between two samples."""
    positive, negative = np.sort(np.asarray(positive, float)), np.sort(np.asarray(negative, float))
    values = np.unique(np.concatenate([positive, negative]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    above = 1 - np.searchsorted(positive, cuts, side="right") / len(positive)
    false = 1 - np.searchsorted(negative, cuts, side="right") / len(negative)
    return float(cuts[np.argmax(above - false)])


def fit_bands(harmful: ArrayLike, benign: ArrayLike, *, missed: float = 0.05) -> Bands:
    """Bands on refusal mass from labelled prompts: `high` by Youden's J, `low` where `missed` of the harmful lie below.

    Prompts in the low band anchor the learner, so `low` bounds the share of harmful prompts whose compliance would be
    preserved; between the two neither side is taught (science: a median jailbreak sits just under one threshold).
    """
    high = youden(harmful, benign)
    return Bands(low=float(min(high, np.quantile(np.asarray(harmful, float), missed))), high=high)


def fit_entropy_cut(refusals: ArrayLike, others: ArrayLike) -> float:
    """Mean response entropy, in nats, up to which a response counts as confident: Youden's J, others above refusals."""
    return youden(others, refusals)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a model ran under besides its weights.

    template: digest of its chat template's text (None: it has none, or it is not known); dtype: of its computation, such as
    "float32"; quantization: the method its weights are stored by, None where they are not quantised; arguments: what the
    operator gives the template beside the messages, as JSON, None for nothing.
    """

    template: str | None
    dtype: str
    quantization: str | None
    arguments: str | None = None

    @classmethod
    def of(
        cls, template: str | None, dtype: str, quantization: str | None, arguments: Mapping[str, Any] | None = None
    ) -> Conditions:
        """Of the template's text: a rendering may tell the date, and Jinja drops one newline at the end."""
        if template is not None:
            template = "sha256:" + hashlib.sha256(template.removesuffix("\n").encode()).hexdigest()
        return cls(template, dtype, quantization, json.dumps(arguments, sort_keys=True) if arguments else None)

    def unlike(self, served: Conditions) -> str | None:
        """In what these are others than those served, so that what was measured under them does not hold; None where in
        nothing. A template moves the place of the decision, and quantisation the model."""
        if None not in (self.template, served.template) and self.template != served.template:
            return "another chat template"
        if None not in (self.template, served.template) and self.arguments != served.arguments:
            return f"the chat template's arguments {self.arguments or 'none'}, and {served.arguments or 'none'} are served"
        if self.quantization != served.quantization:
            return f"the quantisation {self.quantization or 'none'}, and {served.quantization or 'none'} is served"
        return None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Openings, bands and cut of one model with one adapter.

    model: fingerprint of the base model; adapter: "base" or "v<N>"; serving_mass: bands of the mass the worker ships;
    tree_mass: bands of the exact mass of the opening tree (learner and gate); entropy_cut: nats; rule: which responses are
    touched under enforcement; refusal: token ids of a short refusal in the model's own words, without its end token;
    fallback: whether it is a fixed sentence instead, for the model gave no short one; created: ISO 8601, UTC; figures: what
    was seen while fitting, for people to read; root: deciles of the refusal mass where answers to harmless prompts begin, by
    which a drift of live traffic shows; conditions: what the model ran under; judge: who read the answers, as settings spell
    it; suite: digest of the labelled prompts; sense: the read-out of harm from the residual stream. The last four are None
    in a calibration that was made before they were put on record, and the sense where it could not be fitted.
    """

    model: str
    adapter: str
    openings: Openings
    serving_mass: Bands
    tree_mass: Bands
    entropy_cut: float
    created: str
    rule: Rule = Rule()
    refusal: Tokens = ()
    figures: Mapping[str, object] = field(default_factory=dict)
    root: tuple[float, ...] = ()
    conditions: Conditions | None = None
    judge: str | None = None
    suite: str | None = None
    fallback: bool = False
    sense: Sense | None = None

    def measured_unlike(self, judge: str | None, suite: str) -> str | None:
        """By what else than this judge or suite (its digest) it was measured, as far as it says; None where by nothing."""
        if None not in (self.judge, judge) and self.judge != judge:
            return f"the judge {self.judge}, and {judge} is chosen"
        return "other labelled prompts" if self.suite not in (None, suite) else None

    def unlike(self, served: Conditions) -> str | None:
        """In what it was made for something else than is served, as far as it says; None where in nothing."""
        return None if self.conditions is None else self.conditions.unlike(served)

    def reservation(self, served: Conditions) -> str | None:
        """What is to be known of this calibration where it is used under conditions that it is not `unlike`."""
        if self.conditions is None:
            return "does not say for which chat template and quantisation it was made: a new one (`sirl calibrate`) would"
        if self.conditions.dtype != served.dtype:
            return (
                f"was made in {self.conditions.dtype} and {served.dtype} is served: masses near a threshold differ a little"
            )
        return None

    def verdict(self, mass: float | None, opening_matched: bool, entropy_mean: float, harm: float | None = None) -> Verdict:
        """The verdict on a response with this refusal mass, opening and mean entropy (nats), to a request with these
        log-odds of harm."""
        band = None if mass is None else self.serving_mass.band(mass)
        sensed = "grey" if self.sense is None else self.sense.band(harm)
        if self.sense is not None and opening_matched:
            sensed = "harmless" if self.sense.over_refused(harm) else "grey"
        return decide(band, opening_matched, "low" if entropy_mean <= self.entropy_cut else "high", sensed)

    def to_json(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "model": self.model,
            "adapter": self.adapter,
            "openings": self.openings.to_json(),
            "serving_mass": asdict(self.serving_mass),
            "tree_mass": asdict(self.tree_mass),
            "entropy_cut": self.entropy_cut,
            "created": self.created,
            "rule": self.rule.to_json(),
            "refusal": list(self.refusal),
            **({"fallback": True} if self.fallback else {}),
            "figures": dict(self.figures),
            **({"root": list(self.root)} if self.root else {}),
            **({} if self.conditions is None else {"conditions": without_none(asdict(self.conditions), "arguments")}),
            **without_none({"judge": self.judge, "suite": self.suite}, "judge", "suite"),
            **({} if self.sense is None else {"sense": self.sense.to_json()}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, and this sirl-guard reads {FORMAT}")
        return cls(
            model=data["model"],
            adapter=data["adapter"],
            openings=Openings.from_json(data["openings"]),
            serving_mass=Bands.from_json(data["serving_mass"]),
            tree_mass=Bands.from_json(data["tree_mass"]),
            entropy_cut=float(data["entropy_cut"]),
            created=data["created"],
            rule=Rule.from_json(data["rule"]),
            refusal=tuple(map(int, data["refusal"])),
            figures=dict(data["figures"]),
            root=tuple(map(float, data.get("root", ()))),
            conditions=Conditions(**data["conditions"]) if "conditions" in data else None,
            judge=data.get("judge"),
            suite=data.get("suite"),
            fallback=bool(data.get("fallback", False)),
            sense=Sense.from_json(data["sense"]) if data.get("sense") is not None else None,
        )

    def save(self, path: Path) -> None:
        """Write atomically: readers see the old file or the new one. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(self.to_json(), indent=1) + "\n", mode=0o644)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read one; raises CalibrationError when the file is missing, torn or of another format."""
        try:
            data = json.loads(path.read_text())
            if type(found := data["format"]) is int and found > FORMAT:
                raise CalibrationError(
                    f"The calibration at {path} was written by a newer sirl-guard (format {found}; this one reads up to "
                    f"{FORMAT}): upgrade this one, or make it again with `sirl calibrate`."
                )
            return cls.from_json(data)
        except FileNotFoundError:
            raise CalibrationError(f"There is no calibration at {path}: make one with `sirl calibrate`.") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CalibrationError(
                f"The calibration at {path} cannot be read ({error}): make it again with `sirl calibrate`."
            ) from error


def without_none(fields: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    """Without the optional ones that are None: what is not there reads as before it was put on record."""
    return {name: value for name, value in fields.items() if name not in optional or value is not None}
