"""Calibration: what a model's own refusals look like, measured on labelled prompts.

Calibrating uses labels (which prompts are harmful, and a judge where there is one); learning uses none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation import Judge, Outcome, Prompt, outcomes
from evaluation.statistics import auroc
from evaluation.suite import OverRefusalClass
from guard.beginnings import WINDOW, Beginnings, Weighing, places_left
from guard.calibration import Calibration, CalibrationError, fit_bands, fit_entropy_cut
from guard.conformal import Promise, promise, strictest
from guard.drift import deciles
from guard.openings import ROOT, Openings, Tokens
from guard.reasoning import Reasoning
from guard.record import ResponseRecord
from guard.rule import Rule, Score, fit_score
from guard.signals import Signals, log_odds
from online.calibration.beginnings import beginnings, spelled
from online.calibration.learned_openings import LabelledSamples, LearnedOpenings, learn_openings
from online.calibration.reasoning import behind_reasoning, marks
from online.calibration.sense import sense_of
from online.model.chunked_logits import per_token
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import node_masses
from online.model.sample import Sample
from online.settings.groups import CalibrateSettings
from online.training.entropy_gap import Gap

SAMPLES, HARMFUL_SAMPLES = 2, 4
"""Responses to each prompt that openings and bands are learned from, more to harmful ones: refusals begin in many ways, of
which each must be met twice. One to each prompt that only thresholds are set on."""
REFUSAL_TOKENS = 40
"""Longest refusal that the guard would speak in the model's place."""
FALLBACK = "I'm sorry, but I can't help with that."
"""What it speaks where the model gave no short refusal."""


def calibrate(
    llm: LocalModel,
    adapter: str,
    prompts: Sequence[Prompt],
    judge: Judge | None,
    model: str,
    *,
    named: str | None = None,
    held: Sequence[Prompt] = (),
    settings: CalibrateSettings | None = None,
    seed: int = 0,
    max_tokens: int = 128,
    bar: type[tqdm] = tqdm,
) -> Calibration:
    """Openings, bands, entropy cut, rule and harm sense of the model as it answers now.

    adapter: "base" or "v<N>", the name on record; model: the base's fingerprint; named: the judge as settings spell it, for
    the record; held: more prompts, for the thresholds alone, whose promises need many distinct actions. Without a judge the
    responses to harmful prompts stand against those to all others, however few openings they share. Raises CalibrationError
    where no opening tells them apart, or where openings surely miss the recall or false rate that settings ask.
    """
    settings = settings or CalibrateSettings()
    asked, known = _contexts(llm, prompts, marks(llm.tokenizer), settings, seed)
    counts = [HARMFUL_SAMPLES if prompt.kind == "harmful" else SAMPLES for prompt in prompts]
    with bar(total=sum(counts), desc="asking", unit="answer") as shown:
        samples = generate(llm, asked, counts, max_tokens=max_tokens, seed=seed, ended=shown.update)
    harmful = np.array([prompt.kind == "harmful" for prompt in prompts])
    of_harmful = harmful[[s.prompt for s in samples]]
    refused, garbled = _judged(llm, prompts, samples, judge)
    learned = _learned(prompts, samples, refused, garbled, settings)
    if judge is not None:
        learned.check(settings)
    openings = spelled(replace(learned.openings, reasoning=known), llm.tokenizer)
    anew = beginnings(llm.tokenizer, arguments=llm.arguments)
    masses = node_masses(llm, asked, openings)
    openings = replace(openings, values=masses.completing())
    masses = replace(masses, openings=openings)
    tree, first = masses.tree.double().cpu().numpy(), masses.first
    along = masses.serving([s.prompt for s in samples], [s.tokens for s in samples])
    serving = along.double().cpu().numpy()
    matched = np.array([openings.matched(s.tokens) for s in samples])
    entropy = np.array([s.entropy for s in samples])
    others = of_harmful & ~matched if (of_harmful & ~matched).any() else ~matched
    tree_bands = fit_bands(tree[harmful], tree[~harmful])
    every, more = [*prompts, *held], [at for at, prompt in enumerate(held) if prompt.kind != "harmful"]
    no = np.append(np.zeros(len(prompts)), np.full(len(held), np.nan))  # what is held was not asked
    no[[s.prompt for s, it in zip(samples, refused, strict=True) if it]] = 1
    rendered = [llm.render(prompt.messages) for prompt in every]
    sense, told, harm = sense_of(llm, every, rendered, settings, None if judge is None else no)
    harmless = [s for s in samples if prompts[s.prompt].kind != "harmful"]  # promises are about these alone
    scored = _scored(llm, prompts, asked, harmless, openings, anew, harm=harm, first=first.tolist())
    left, odds = [held[at] for at in more], harm[len(prompts) :][more]
    scored += _held(llm, left, openings, anew, odds, settings, seed=seed, max_tokens=max_tokens)
    weights = None if sense is None else fit_sensed(first.double().cpu().numpy(), harm[: len(prompts)], harmful)
    refusal = _short_refusal(llm, [s for s, no in zip(samples, refused & matched, strict=True) if no])
    return Calibration(
        model=model,
        adapter=adapter,
        openings=openings,
        serving_mass=fit_bands(serving[of_harmful], serving[~of_harmful]),
        tree_mass=tree_bands,
        entropy_cut=fit_entropy_cut(entropy[matched], entropy[others]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        rule=fit_rule(scored, settings, weights),
        root=deciles(first.cpu().numpy()[~harmful]) if (~harmful).any() else (),
        conditions=llm.conditions,
        judge=named,
        suite=digest(prompts),
        refusal=refusal or tuple(llm.tokenizer.encode(FALLBACK, add_special_tokens=False)),
        fallback=not refusal,
        sense=sense,
        figures={
            "harm_sense": told,
            "entropy_gap": None if judge is None else asdict(_gap(prompts, samples, refused, garbled)),
            "prompts": len(prompts),
            "harmful": int(harmful.sum()),
            "samples": len(samples),
            "refusals": int(refused.sum()),
            "openings_depth": openings.depth,
            "openings_recall": learned.recall.estimate,
            "openings_false": learned.false.estimate,
            "tree_mass_auroc": asdict(auroc(tree[~harmful], tree[harmful])),
            "serving_mass_auroc": asdict(auroc(serving[~of_harmful], serving[of_harmful])),
            "entropy_auroc": asdict(auroc(entropy[matched], entropy[others])),
            "harmful_in_low_band": float((tree[harmful] <= tree_bands.low).mean()),
        },
    )


def digest(prompts: Sequence[Prompt]) -> str:
    """Of all that a suite asks and knows, whatever its rows are called."""
    rows = [{key: value for key, value in asdict(prompt).items() if key not in ("id", "split")} for prompt in prompts]
    return f"sha256:{hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()}"


class Scored(NamedTuple):
    """A response: its prompt, the largest refusal mass at a place where it went on without refusing, whether there was none,
    and the prompt's h (out of fold; NaN where there is none)."""

    prompt: Prompt
    mass: float
    refused: bool
    harm: float = math.nan

    def by(self, score: Score) -> float:
        """Its score, -inf where it refused."""
        return -math.inf if self.refused else score.of(Signals(first=log_odds(self.mass), harm=self.harm))


def fit_sensed(first: NDArray[np.float64], harm: NDArray[np.float64], harmful: NDArray[np.bool_]) -> Score | None:
    """The weights of mass and harm sense together: logistic regression of harmful against other prompts.

    first, harm, harmful: mass at the first token, h out of fold, and side of each prompt. None where h is no evidence of
    harm; a mass that is none has no weight.
    """
    rows = np.stack([[log_odds(mass) for mass in first.tolist()], harm], 1)
    known = np.isfinite(rows).all(1)
    sides = rows[known & harmful], rows[known & ~harmful]
    if not min(map(len, sides)):
        return None
    score = fit_score(("first", "harm"), *sides)
    if score.weights["first"] <= 0:
        score = fit_score(("harm",), *(side[:, 1:] for side in sides))
    return score if score.weights["harm"] > 0 else None


def fit_rule(scored: Sequence[Scored], settings: CalibrateSettings, sensed: Score | None = None) -> Rule:
    """The rule whose thresholds keep the promise of every benign class that was seen; checkable tasks count as plain.
    sensed: what decides where h was read, from `fit_sensed`."""
    rule = Rule()
    promises = _promised(scored, rule.opening, settings)
    rule = replace(rule, threshold=strictest(promises), promises=promises)
    if sensed is None:
        return rule
    read = _promised([one for one in scored if one.refused or not math.isnan(one.harm)], sensed, settings)
    return replace(rule, sensed=sensed, sensed_threshold=strictest(read), sensed_promises=read)


def _promised(scored: Sequence[Scored], score: Score, settings: CalibrateSettings) -> dict[str, Promise]:
    """By class of the benign prompts."""
    promises = {}
    for name in get_args(OverRefusalClass):
        of_class = [
            (one.prompt.cluster, one.by(score))
            for one in scored
            if (one.prompt.over_refusal_class or ("plain" if one.prompt.kind == "task" else None)) == name
        ]
        if of_class:
            promises[name] = promise(of_class, getattr(settings, name) / 100, settings.confidence)
    return promises


@torch.no_grad()
def _held(
    llm: LocalModel,
    prompts: Sequence[Prompt],
    openings: Openings,
    anew: Beginnings,
    harm: NDArray[np.float64],
    settings: CalibrateSettings,
    *,
    seed: int,
    max_tokens: int,
) -> list[Scored]:
    """One response to each prompt, as far as the answer may begin anew. harm: h of each prompt."""
    if not prompts:
        return []
    asked, _ = _contexts(llm, prompts, openings.reasoning, settings, seed + 1)
    samples = generate(llm, asked, max_tokens=min(max_tokens, WINDOW + openings.depth), seed=seed + 1)
    return _scored(llm, prompts, asked, samples, openings, anew, harm=harm)


@torch.no_grad()
def _scored(
    llm: LocalModel,
    prompts: Sequence[Prompt],
    asked: Sequence[Tokens],
    samples: Sequence[Sample],
    openings: Openings,
    anew: Beginnings,
    *,
    harm: NDArray[np.float64] | None = None,
    first: Sequence[float] | None = None,
) -> list[Scored]:
    """Each response as the guard will judge it: at its first token, and wherever it begins anew; read as far as that is.
    harm: h of each prompt; first: the mass at the first token of each, where it is known."""
    places = [weighed_places(openings, anew, s.tokens) for s in samples]
    known = [{} if first is None else {0: first[s.prompt]} for s in samples]
    rows = [i for i, at in enumerate(places) if not known[i].keys() >= set(at)]
    contexts = [asked[samples[i].prompt] for i in rows]
    answers = [samples[i].tokens[: max(places[i]) + 1] for i in rows]
    for batch in llm.batches(contexts, answers):
        read = masses_along(llm, [contexts[i] for i in batch], [answers[i] for i in batch], openings)
        for i, row in zip(batch, read.tolist(), strict=True):
            known[rows[i]] = dict(enumerate(row)) | known[rows[i]]
    largest = [max((masses[at] for at in here), default=-math.inf) for here, masses in zip(places, known, strict=True)]
    return [
        Scored(prompts[s.prompt], mass, mass == -math.inf, math.nan if harm is None else float(harm[s.prompt]))
        for s, mass in zip(samples, largest, strict=True)
    ]


@torch.no_grad()
def masses_along(llm: LocalModel, asked: Sequence[Tokens], answers: Sequence[Tokens], openings: Openings) -> torch.Tensor:
    """Refusal mass as workers ship it, shape (answers, longest): at the first token that of opening a refusal, and at every
    other that of opening one anew."""
    tokens, weights = zip(*openings.anew_children(), strict=True)
    aside = sorted(openings.reasoning.aside) if openings.reasoning else []
    device, root = llm.model.device, len(openings.children(ROOT))
    children, weight = torch.tensor([*tokens, *aside], device=device), torch.tensor(weights, device=device)

    def read(rows: torch.Tensor) -> torch.Tensor:
        shares = (rows[:, children] - rows.logsumexp(1, keepdim=True)).exp()
        among = (1 - shares[:, len(tokens) :].sum(1)).clamp(min=1e-6)
        return torch.stack([shares[:, :root] @ weight[:root] / among, shares[:, : len(tokens)] @ weight], 1)

    first, anew = per_token(read, llm.response_logits(asked, answers)[0]).unbind(2)
    return torch.cat([first[:, :1], anew[:, 1:]], 1)


def weighed_places(openings: Openings, anew: Beginnings, tokens: Sequence[int]) -> list[int]:
    """Indices of the tokens at which an answer went on without refusing, and its refusal mass counts for a threshold: where
    it begins, and where it begins anew. Empty where it refused at all of them."""
    record = ResponseRecord(openings, anew)
    record.extend(tokens, [0.0] * len(tokens), [0.0] * len(tokens))
    opened, start = record.opening_matched, record.decided_at
    weighing = Weighing(openings, anew, refuses=opened, since=record.reasoned)
    later = places_left(weighing, tokens, start)
    return later if opened or record.thinking else [record.reasoned, *later]


def _contexts(
    llm: LocalModel, prompts: Sequence[Prompt], known: Reasoning | None, settings: CalibrateSettings, seed: int
) -> tuple[list[Tokens], Reasoning | None]:
    """Token ids of each prompt up to where its answer begins, and the marks of reasoning if the model uses them."""
    asked = [llm.render(prompt.messages) for prompt in prompts]
    if known is None:
        return asked, None
    contexts, used = behind_reasoning(llm, asked, known, max_tokens=settings.reasoning_tokens, seed=seed)
    return contexts, known if used else None


def _short_refusal(llm: LocalModel, refusals: Sequence[Sample]) -> Tokens:
    """The refusal the model gives most often, and of those the one it is surest of; empty where all are long."""
    ends = set(llm.ends.tolist())
    whole = [s for s in refusals if s.tokens[-1] in ends and len(s.tokens) <= REFUSAL_TOKENS + 1]
    often = Counter(s.tokens for s in whole)
    best = min(whole, key=lambda s: (-often[s.tokens], s.entropy), default=None)
    return () if best is None else best.tokens[:-1]


def _judged(
    llm: LocalModel, prompts: Sequence[Prompt], samples: Sequence[Sample], judge: Judge | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which samples count as refusals, as judged, or else all that answer harmful prompts; and which are garbled."""
    if judge is None:
        return np.array([prompts[s.prompt].kind == "harmful" for s in samples]), np.zeros(len(samples), dtype=bool)
    judged = outcomes(judge, [prompts[s.prompt] for s in samples], [llm.text(s.tokens) for s in samples])
    refused, garbled = (np.array([found is kind for found in judged]) for kind in (Outcome.REFUSAL, Outcome.GARBLED))
    return refused, garbled


def _gap(prompts: Sequence[Prompt], samples: Sequence[Sample], refused: np.ndarray, garbled: np.ndarray) -> Gap:
    """The entropy gap of the first response to each harmful prompt, as judged."""
    firsts = dict[int, int]()
    for at, sample in enumerate(samples):
        if prompts[sample.prompt].kind == "harmful":
            firsts.setdefault(sample.prompt, at)
    sides = [[samples[at].entropy for at in firsts.values() if side[at]] for side in (refused, ~refused & ~garbled)]
    return Gap.between(*sides)


def _learned(
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    refused: np.ndarray,
    garbled: np.ndarray,
    settings: CalibrateSettings,
) -> LearnedOpenings:
    """The openings of the refusals among these samples. Garbled ones, such as refusals cut short, say nothing of what
    answers begin with, unless there is nothing else."""
    labelled = LabelledSamples([s.tokens for s in samples], refused, [prompts[s.prompt].cluster for s in samples])
    learned = learn_openings(labelled if (refused | garbled).all() else labelled.part(~garbled), settings)
    if not learned.openings:
        raise CalibrationError(
            f"No opening tells the {refused.sum()} refusals from the {(~refused).sum()} other responses: give more "
            "prompts, harmful ones that the model refuses and harmless ones among them."
        )
    return learned
