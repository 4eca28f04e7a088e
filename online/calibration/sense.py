"""The harm sense, fitted: a read-out of harm from the residual stream, with the thresholds whose promises can be kept.

Every figure and threshold rests on h of prompts by read-outs that were not fitted on their source or goal (out of fold). h
is the log-odds at even odds of harm: both sides weigh the same, for nobody knows an operator's traffic beforehand.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from evaluation import Figure, Prompt
from evaluation.statistics import auroc, unseen_sample_size
from evaluation.suite import OverRefusalClass
from guard.conformal import Promise, promise
from guard.openings import Tokens
from guard.sense import Place, Sense, TurnEnd
from guard.signals import log_odds
from online.calibration.beginnings import PROBES, common_end
from online.calibration.read_out import Choice, Examples, chosen, criterion, fit
from online.model.local_model import LocalModel
from online.model.residual import decoder_layers, residuals
from online.settings.groups import CalibrateSettings

CANDIDATES = 7
"""Layers to choose among: from a quarter of the depth to the last but one, for the last writes words and no longer means."""
FEW = 20
"""Prompts of either side below which nothing is fitted."""
SURE = 0.5
"""Refusal mass from which on a prompt counts as refused without labels, where all its samples refused too."""
CALM = 0.05
"""Refusal mass up to which it counts as ordinary, where none of them did."""
PLAIN, WRAPPED, BORDERLINE = get_args(OverRefusalClass)
TRAFFIC = "traffic"


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A sense, h of each prompt out of fold (NaN where its source could not be left out), promises by class and what is
    missing for those that cannot be kept, in sentences."""

    sense: Sense
    h: NDArray[np.float64]
    promises: Mapping[str, Promise]
    missing: tuple[str, ...]
    choices: tuple[Choice, ...]


def sense_of(
    llm: LocalModel,
    prompts: Sequence[Prompt],
    asked: Sequence[Tokens],
    settings: CalibrateSettings,
    refused: NDArray[np.float64] | None = None,
) -> tuple[Sense | None, dict[str, object], NDArray[np.float64]]:
    """The sense of the model as it answers now, figures for people to read, and h of each prompt out of fold (NaN where
    there is none).

    asked: token ids of each prompt as it is rendered, without a reasoning behind it, for h is read around the prompt's end.
    refused: whether the model refused it at least once, 1 or 0, and NaN where it was not asked; None: of none that is known.
    No sense where there are too few prompts of a side, or none that could be left out: the figures then say what is missing.
    """
    layers, turn_end = candidates(len(decoder_layers(llm))), turn_end_of(llm)
    back = [(0, turn_end.behind_words(prompt)) for prompt in asked] if turn_end.tokens else None
    streams = residuals(llm, asked, layers, back).numpy()
    harmful = np.array([prompt.kind == "harmful" for prompt in prompts], dtype=bool)
    told_by = [cell(p) for p in prompts], sources(prompts), [p.cluster for p in prompts]
    sound = np.isfinite(streams).all((1, 2, 3))  # a stream that overflows in a narrow dtype says nothing
    places = [Examples(streams[:, at], harmful, *told_by).part(sound) for at in range(streams.shape[1])]
    examples, h = places[0], np.full(len(prompts), np.nan)
    counts = [int((examples.harmful == side).sum()) for side in (True, False)]
    if min(counts) < FEW:
        lacking = f"{counts[0]} harmful and {counts[1]} harmless prompts are too few for the harm sense"
        return None, {"missing": [f"{lacking}: give {FEW} of each at least."]}, h
    classes = {name: getattr(settings, name) for name in get_args(OverRefusalClass)}
    no = None if refused is None else refused == 1
    fitted = fit_sense(places, layers, classes, settings, None if no is None else no[sound], turn_end)
    if fitted is None:
        missing = ["The prompts are of one source or goal, and none can be left out: give prompts of several."]
        return None, {"missing": missing}, h
    h[sound] = fitted.h
    told = figures(fitted, examples)
    if refused is not None and no is not None:
        under = np.array([fitted.sense.over_refused(x) for x in h.tolist()])
        told["refused"] = {
            side: {"prompts": int(some.sum()), "needless": int((some & under).sum())}
            for side, some in (("harmful", no & harmful), ("harmless", no & ~harmful))
        }
        answered = complied_auroc(fitted.h, examples, refused[sound] == 0)
        told["complied_auroc"] = asdict(answered) if answered.n else None
    return fitted.sense, told, h


def fit_sense(
    places: Sequence[Examples],
    layers: Sequence[int],
    classes: Mapping[str, float],
    settings: CalibrateSettings,
    refused: NDArray[np.bool_] | None = None,
    turn_end: TurnEnd | None = None,
) -> Fitted | None:
    """The best read-out with its thresholds; None where nothing could be left out.

    places: the same examples with their streams at the prompt's end, and perhaps at the end of the user's words; layers: the
    numbers of their layers, from 1; classes: of each harmless class (a cell) the percent that may be over `harmful` at most;
    refused: of each example, whether the model refused it, for `needless`; turn_end: what stands between the places.

    Each place is fitted by itself, and h is the mean of both, where that is no worse than the prompt's end alone: fitted
    together, with twice as many weights, they carry over to other sources less well (docs/evidence/sense.md).
    """
    examples = places[0]
    read = [one for some in places if (one := _at_place(some, layers)) is not None]
    if len(read) < len(places):
        return None
    mean = np.mean([one.h for one in read], 0)
    if criterion(mean, examples) < criterion(read[0].h, examples):
        read, mean = read[:1], read[0].h
    known = np.isfinite(mean)
    slope, offset = log_odds_of(mean[known], examples.part(known))
    numbers = tuple(sorted({number for one in read for number in one.layers}))
    weights = np.zeros((len(read), len(numbers), read[0].weights.shape[1]))
    for place, one in enumerate(read):
        weights[place, [numbers.index(number) for number in one.layers]] = slope / len(read) * one.weights
    bias = slope * float(np.mean([one.bias for one in read])) + offset
    chosen_places, end = get_args(Place)[: len(read)], turn_end or TurnEnd()
    bare, h = Sense(numbers, weights.astype(np.float32), bias, places=chosen_places, turn_end=end), slope * mean + offset
    promises, missing = _promises(h, examples, classes, settings)
    kept = {name: p for name, p in promises.items() if p.confidence >= settings.confidence}
    over = max((promises[name].threshold for name in classes), default=math.inf) if classes.keys() <= kept.keys() else None
    under = -promises["harmful"].threshold if "harmful" in kept else None
    sense = _with_thresholds(bare, over, under, settings.missed / 100)
    if refused is not None:
        sense = replace(sense, needless=_needless(h, examples, refused, settings, missing))
    return Fitted(sense, h, promises, tuple(missing), tuple(one.choice for one in read))


@dataclass(frozen=True, slots=True, eq=False)
class _ReadOut:
    """What was fitted at one place, in log-odds. layers: their numbers; weights: (layers, hidden); h: of each example out of
    fold."""

    choice: Choice
    layers: tuple[int, ...]
    weights: NDArray[np.float64]
    bias: float
    h: NDArray[np.float64]


def _at_place(examples: Examples, layers: Sequence[int]) -> _ReadOut | None:
    """The best read-out of streams at one place; None where nothing could be left out."""
    choice = chosen(examples)
    known = np.isfinite(choice.scores)
    if not 0 < examples.harmful[known].sum() < known.sum():
        return None
    slope, offset = log_odds_of(choice.scores[known], examples.part(known))
    whole = fit(examples, choice.layers, (choice.penalty,))[0]
    numbers = tuple(layers[at] for at in choice.layers)
    return _ReadOut(choice, numbers, slope * whole.weights, slope * whole.bias + offset, slope * choice.scores + offset)


def fit_label_free(
    streams: NDArray[np.float32],
    layers: Sequence[int],
    masses: ArrayLike,
    refused: ArrayLike,
    settings: CalibrateSettings,
) -> Fitted | None:
    """The same from the model's own behaviour, without labels: prompts that it surely refuses against ordinary traffic.

    streams: (prompts, layers, hidden) at their ends; masses: refusal mass of each prompt; refused: share of its sampled
    answers that are refusals. What is between is left out. The promise is then one of traffic: at most `calibrate.plain`
    percent of what the model answers calmly is over `harmful`, and `calibrate.missed` of what it refuses surely at or under
    `harmless`. None where either side has under FEW prompts.
    """
    masses, refused = np.asarray(masses, float), np.asarray(refused, float)
    sure, calm = (masses >= SURE) & (refused == 1), (masses <= CALM) & (refused == 0)
    if min(sure.sum(), calm.sum()) < FEW:
        return None
    taken = np.flatnonzero(sure | calm)
    names = [f"prompt {i}" for i in taken]
    cells = ["refused" if sure[i] else TRAFFIC for i in taken]
    examples = Examples(streams[taken], sure[taken], cells, names, names)
    return fit_sense([examples], layers, {TRAFFIC: settings.plain}, settings)


def candidates(depth: int) -> tuple[int, ...]:
    """The layers to choose among, of a model with so many."""
    first, last = max(1, depth // 4), max(1, depth - 1)
    return tuple(sorted({round(x) for x in np.linspace(first, last, min(CANDIDATES, last - first + 1))}))


def turn_end_of(llm: LocalModel) -> TurnEnd:
    """What the model's chat template puts behind a user's words."""
    tokens = common_end([llm.render([{"role": "user", "content": probe}]) for probe in PROBES])
    return TurnEnd(tokens, frozenset(tokens) & frozenset(llm.tokenizer.get_added_vocab().values()))


def cell(prompt: Prompt) -> str:
    """What kind of prompt it is: its class where it is harmless (a task is plain), or else whether it is wrapped."""
    if prompt.kind == "harmful":
        return "jailbroken" if prompt.family else "bare"
    return prompt.over_refusal_class or PLAIN


def sources(prompts: Sequence[Prompt]) -> list[str]:
    """Of each prompt the family of its wrapper, or the data set it is from: the beginning of its id, or where that is the
    same for all of a side, its topic, and where there is none the prompt itself with what shares its action."""
    found = [f"family {prompt.family}" if prompt.family else "" for prompt in prompts]
    ways = (lambda p: re.sub(r"[\W_]*\d+$", "", p.id), lambda p: str(p.topic), lambda p: p.cluster)
    for side in (True, False):
        bare = [i for i, prompt in enumerate(prompts) if not prompt.family and (prompt.kind == "harmful") is side]
        for way in ways:
            names = [way(prompts[i]) for i in bare]
            if len(set(names)) > 1 or way is ways[-1]:
                for i, name in zip(bare, names, strict=True):
                    found[i] = name
                break
    return found


def log_odds_of(scores: NDArray[np.float64], examples: Examples) -> tuple[float, float]:
    """(slope, offset) that make log-odds of scores: logistic regression with both sides weighing the same, its targets
    drawn in a little as Platt (1999) has them, so that sides which do not overlap have finite odds."""
    share = examples.shares()
    counts = {side: int((examples.harmful == side).sum()) for side in (True, False)}
    target = np.where(examples.harmful, (counts[True] + 1) / (counts[True] + 2), 1 / (counts[False] + 2))

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = at[0] * scores + at[1]
        error = share * (1 / (1 + np.exp(-odds)) - target)
        return float(share @ (np.logaddexp(0, odds) - target * odds)), np.array([error @ scores, error.sum()])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)]).x
    return float(slope), float(offset)


def figures(fitted: Fitted, examples: Examples) -> dict[str, object]:
    """What was seen out of fold: AUROC of each harmful cell against each harmless one, promises, and what is missing."""
    known, cells = np.isfinite(fitted.h), np.array(examples.cells)
    sides = [sorted(set(cells[side & known])) for side in (examples.harmful, ~examples.harmful)]
    return {
        "layers": list(fitted.sense.layers),
        "places": list(fitted.sense.places),
        "penalty": [choice.penalty for choice in fitted.choices],
        "prompts": dict(Counter(examples.cells)),
        "sources": len(set(examples.sources)),
        "auroc": {
            f"{high} against {low}": asdict(auroc(fitted.h[known & (cells == low)], fitted.h[known & (cells == high)]))
            for high in sides[0]
            for low in sides[1]
        },
        "promises": {name: asdict(p) for name, p in fitted.promises.items() if math.isfinite(p.threshold)},
        "missing": list(fitted.missing),
    }


def complied_auroc(h: NDArray[np.float64], examples: Examples, answered: NDArray[np.bool_]) -> Figure:
    """AUROC of h on harmful prompts that the model answers against harmless ones that look harmful, by wrapper or words; its
    interval is over goals."""
    goals, known = np.array(examples.goals), np.isfinite(h)
    alike = known & ~examples.harmful & np.isin(np.array(examples.cells), (WRAPPED, BORDERLINE))
    complied = known & examples.harmful & answered
    return auroc(h[alike], h[complied], clusters=(goals[alike].tolist(), goals[complied].tolist()))


def _promises(
    h: NDArray[np.float64], examples: Examples, classes: Mapping[str, float], settings: CalibrateSettings
) -> tuple[dict[str, Promise], list[str]]:
    """Of each harmless class how many may be over `harmful`, and of all harmful prompts how many under `harmless`."""
    rows = [(goal, float(x)) for goal, x in zip(examples.goals, h, strict=True)]
    seen = np.isfinite(h)
    promises, missing = {}, []
    for name, percent in (*classes.items(), ("harmful", settings.missed)):
        of_class = examples.harmful if name == "harmful" else ~examples.harmful & (np.array(examples.cells) == name)
        sign = -1 if name == "harmful" else 1
        found = promise(((g, sign * x) for (g, x), in_it in zip(rows, seen & of_class, strict=True) if in_it),
                        percent / 100, settings.confidence)  # fmt: skip
        promises[name] = found
        if found.confidence < settings.confidence:
            needed = unseen_sample_size(percent / 100, 1 - settings.confidence)
            setting = {"harmful": "missed", TRAFFIC: "plain"}.get(name, name)
            missing.append(
                f"A promise for {percent:g}% of {name} prompts needs {needed} distinct ones and there are {found.clusters}: "
                f"give {needed - found.clusters} more, or raise calibrate.{setting}."
            )
    return promises, missing


def _needless(
    h: NDArray[np.float64], examples: Examples, refused: NDArray[np.bool_], settings: CalibrateSettings, missing: list[str]
) -> float | None:
    """h under which a refusal is needless: of the harmful prompts that the model refuses few enough lie there, and harm is
    less likely than not. None, and what is missing is said, where the promise cannot be kept.

    Whoever answers a refused request anew needs no more: of harmful ones that the model answers nothing is drawn again.
    """
    taken = examples.harmful & refused & np.isfinite(h)
    rows = [(goal, -float(x)) for goal, x, in_it in zip(examples.goals, h, taken, strict=True) if in_it]
    found = promise(rows, settings.missed / 100, settings.confidence)
    if found.confidence >= settings.confidence:
        return min(math.nextafter(-found.threshold, -math.inf), 0.0)
    needed = unseen_sample_size(settings.missed / 100, 1 - settings.confidence)
    missing.append(
        f"A promise for {settings.missed:g}% of harmful prompts that the model refuses needs {needed} distinct ones and "
        f"there are {found.clusters}: give {needed - found.clusters} more, or raise calibrate.missed."
    )
    return None


def _with_thresholds(sense: Sense, over: float | None, under: float | None, missed: float) -> Sense:
    """With thresholds beyond these, which are themselves not to count.

    Where both sides lie far apart on the prompts at hand, grey still reaches from where harm has the probability `missed` to
    even odds: what is unlike all of them lies there, and neither promise speaks of it.
    """
    harmful = None if over is None else max(math.nextafter(over, math.inf), 0.0)
    harmless = None if under is None else min(math.nextafter(under, -math.inf), log_odds(missed))
    if harmful is not None and harmless is not None:
        harmless = min(harmless, math.nextafter(harmful, -math.inf))
    return replace(sense, harmful=harmful, harmless=harmless)
