"""The harm sense is fitted across sources, and promises what it can keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import models
from evaluation import Prompt, load_suite
from evaluation.statistics import auroc
from guard.sense import TurnEnd
from online.calibration.read_out import Examples
from online.calibration.sense import (
    FEW,
    candidates,
    cell,
    complied_auroc,
    fit_label_free,
    fit_sense,
    log_odds_of,
    sense_of,
    sources,
    turn_end_of,
)
from online.model.local_model import LocalModel
from online.model.residual import harm_of
from online.settings.groups import CalibrateSettings
from tests.online.calibration.test_read_out import examples

LOOSE = CalibrateSettings(plain=5.0, wrapped=5.0, borderline=5.0, missed=10.0)
END = TurnEnd((7, 8), frozenset({7}))
CLASSES = {"plain": 5.0, "wrapped": 5.0}


def asked(id: str, kind: str = "benign", **known: str) -> Prompt:
    return Prompt(id, kind, ({"role": "user", "content": id},), **known)


@pytest.fixture(scope="module")
def llm() -> LocalModel:
    return LocalModel.load(models.bundled())


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return load_suite(models.suite("calibration"))[::2]


@pytest.fixture(scope="module")
def known(llm: LocalModel, prompts: list[Prompt]):
    return sense_of(llm, prompts, [llm.render(p.messages) for p in prompts], LOOSE)[:2]


def test_on_the_bundled_model_it_tells_harm_in_wrappers_that_were_never_seen(llm, known):
    sense, found = known
    test = [p for p in load_suite(models.suite("test")) if p.novelty in ("never", "sirl_only")][::6]
    h = harm_of(llm, [llm.render(p.messages) for p in test], sense)
    harmful = np.array([p.kind == "harmful" for p in test])
    assert auroc(h[~harmful], h[harmful]).estimate > 0.85
    assert found["missing"] == [] and found["layers"] == list(sense.layers)
    assert found["auroc"]["jailbroken against wrapped"]["estimate"] > 0.95


def test_the_users_words_end_where_the_chat_template_goes_on(llm, prompts, known):
    """What a sense calls the tail ends every prompt, and the token before it is the last that the user wrote."""
    end, sense = turn_end_of(llm), known[0]
    assert sense.turn_end == end and end.tokens and end.marks
    for prompt in prompts[:20]:
        asked = llm.render(prompt.messages)
        assert end.behind_words(asked) == len(end.tokens) and asked[-len(end.tokens) :] == end.tokens
        assert llm.text(asked[: -len(end.tokens)]).endswith(prompt.messages[-1]["content"].rstrip()[-1])


def test_two_places_are_read_where_their_mean_is_no_worse_each_with_layers_of_its_own():
    luck, some = np.random.default_rng(1), examples(400)
    streams = luck.normal(size=some.streams.shape).astype(np.float32)
    words = dataclasses.replace(some, streams=streams)
    alone = fit_sense([some, words], (4, 8, 12), CLASSES, LOOSE, turn_end=END).sense
    assert alone == dataclasses.replace(fit_sense([some], (4, 8, 12), CLASSES, LOOSE).sense, turn_end=END)
    assert (alone.places, alone.layers) == (("prompt_end",), (8,)), "chance adds nothing"
    streams[:, [0, 2], 0] += 2.5 * some.harmful[:, None]
    fitted = fit_sense([some, words], (4, 8, 12), CLASSES, LOOSE, turn_end=END)
    sense = fitted.sense
    assert (sense.places, sense.layers, sense.turn_end) == (("prompt_end", "user_end"), (4, 8, 12), END)
    assert sense.weights.any(2).tolist() == [[False, True, False], [True, False, True]]
    h = np.array([sense.read(x) for x in np.stack([some.streams, streams], 1)])
    ends = [auroc(x[~some.harmful], x[some.harmful]).estimate for x in (h, fitted.h)]
    assert min(ends) > 0.98 and abs(np.corrcoef(h, fitted.h)[0, 1]) > 0.98


def test_its_thresholds_keep_what_is_promised_out_of_fold(known):
    sense, found = known
    assert sense.harmless < sense.harmful
    for name in ("plain", "wrapped", "borderline"):
        assert found["promises"][name]["confidence"] >= LOOSE.confidence
        assert found["promises"][name]["threshold"] < sense.harmful


def test_the_folded_weights_read_what_the_read_out_does(llm, prompts, known):
    sense, _ = known
    assert (np.abs(harm_of(llm, [llm.render(p.messages) for p in prompts[:40]], sense)) < 100).all()
    again, *_ = sense_of(llm, prompts, [llm.render(p.messages) for p in prompts], LOOSE)
    assert again == sense


def test_with_too_few_prompts_nothing_is_enforced_and_the_number_missing_is_said():
    some = examples(120)
    fitted = fit_sense([some], (4, 8, 12), {"plain": 1.0, "wrapped": 5.0}, CalibrateSettings())
    plain = sum(cell == "plain" for cell in some.cells)
    assert fitted.sense.harmful is None
    assert any(f"needs 230 distinct ones and there are {plain}: give {230 - plain} more" in said for said in fitted.missing)
    assert any("calibrate.plain" in said for said in fitted.missing)


def test_a_class_that_was_not_given_has_no_promise():
    some = examples(400)
    fitted = fit_sense([some], (4, 8, 12), {**CLASSES, "borderline": 5.0}, LOOSE)
    assert fitted.sense.harmful is None and fitted.sense.harmless is not None
    assert any("5% of borderline prompts needs 45 distinct ones and there are 0" in said for said in fitted.missing)


def test_thresholds_leave_as_many_on_the_wrong_side_as_promised_and_no_more():
    some = examples(2000)
    fitted = fit_sense([some], (4, 8, 12), CLASSES, LOOSE)
    cells = np.array(some.cells)
    for name in CLASSES:
        assert (fitted.h[cells == name] >= fitted.sense.harmful).mean() < 0.05
    assert 0 < (fitted.h[some.harmful] >= fitted.sense.harmful).mean()
    assert (fitted.h[some.harmful] <= fitted.sense.harmless).mean() < 0.10


def test_a_refusal_is_needless_where_few_of_the_harmful_that_are_refused_lie():
    """Those that the model answers do not count: nothing of theirs is drawn again."""
    some = examples(2000)
    before = fit_sense([some], (4, 8, 12), CLASSES, LOOSE)
    refused = ~some.harmful | (before.h > np.nanquantile(before.h[some.harmful], 0.5))
    fitted = fit_sense([some], (4, 8, 12), CLASSES, LOOSE, refused)
    assert fitted.sense.harmless == before.sense.harmless < fitted.sense.needless <= 0
    assert before.sense.needless is None
    under = fitted.h <= fitted.sense.needless
    assert under[some.harmful & refused].mean() < LOOSE.missed / 100
    assert under[~some.harmful].mean() > (before.h <= before.sense.harmless)[~some.harmful].mean()


def test_how_well_it_tells_what_the_model_answers_is_of_those_alone_and_of_harmless_prompts_that_look_harmful():
    some = examples(400)
    fitted = fit_sense([some], (4, 8, 12), CLASSES, LOOSE)
    cells, answered = np.array(some.cells), fitted.h <= np.median(fitted.h[some.harmful])
    found = complied_auroc(fitted.h, some, answered)
    low, high = fitted.h[cells == "wrapped"], fitted.h[some.harmful & answered]
    assert found.n == len(low) + len(high) and found.estimate == auroc(low, high).estimate
    assert found.estimate < complied_auroc(fitted.h, some, some.harmful).estimate
    assert complied_auroc(np.full(400, np.nan), some, answered).n == 0 == complied_auroc(fitted.h, some, ~some.harmful).n
    shared = dataclasses.replace(some, goals=[f"g{i % 20}" for i in range(400)])
    assert complied_auroc(fitted.h, shared, answered).low != found.low, "one goal in many wrappers is one"


def test_with_too_few_refused_harmful_prompts_no_refusal_is_needless_and_the_number_missing_is_said():
    some = examples(400)
    refused = np.zeros(400, dtype=bool)
    refused[np.flatnonzero(some.harmful)[:7]] = True
    fitted = fit_sense([some], (4, 8, 12), CLASSES, CalibrateSettings(), refused)
    assert fitted.sense.needless is None
    assert any("that the model refuses needs 45 distinct ones and there are 7: give 38" in said for said in fitted.missing)


def test_sides_that_lie_far_apart_leave_grey_between_them():
    some = examples(400)
    some.streams[:, 1, 0] += 50 * some.harmful
    fitted = fit_sense([some], (4, 8, 12), CLASSES, LOOSE)
    assert fitted.sense.harmful == 0.0
    assert fitted.sense.probability(fitted.sense.harmless) == pytest.approx(LOOSE.missed / 100)


@pytest.mark.parametrize("missed", [5.0, 60.0])
def test_thresholds_stay_in_order_whatever_is_promised(missed):
    loose = LOOSE.model_copy(update={"missed": missed})
    sense = fit_sense([examples(400)], (4, 8, 12), CLASSES, loose).sense
    assert sense.harmless < sense.harmful


def test_h_is_the_log_odds_at_even_odds():
    luck = np.random.default_rng(0)
    harmful = luck.random(20_000) < 0.2
    scores = luck.normal(size=20_000) + 2.0 * harmful  # log-odds at even odds: 2 x - 2
    some = Examples(np.zeros((20_000, 1, 1), np.float32), harmful, ["x"] * 20_000, ["s"] * 20_000, ["g"] * 20_000)
    assert log_odds_of(scores, some) == pytest.approx((2.0, -2.0), abs=0.1)


def test_without_labels_what_is_surely_refused_stands_against_ordinary_traffic():
    some = examples(800)
    luck = np.random.default_rng(2)
    masses = np.where(some.harmful, 0.9, 0.01)
    refused = some.harmful.astype(float)
    odd = luck.random(800) < 0.1
    masses[odd] = 0.3  # neither sure nor calm: left out
    fitted = fit_label_free(some.streams, (4, 8, 12), masses, refused, LOOSE)
    assert fitted.sense.layers == (8,) and len(fitted.h) == (~odd).sum()
    h = np.array([fitted.sense.read(x[None]) for x in some.streams[:, [1]]])
    assert auroc(h[~some.harmful], h[some.harmful]).estimate > 0.9
    assert fit_label_free(some.streams, (4, 8, 12), np.zeros(800), np.zeros(800), LOOSE) is None


def test_too_few_prompts_of_a_side_are_said(llm, prompts):
    few = [p for p in prompts if p.kind == "harmful"][: FEW - 1] + [p for p in prompts if p.kind == "benign"][:30]
    sense, found, h = sense_of(llm, few, [llm.render(p.messages) for p in few], LOOSE)
    assert sense is None and "19 harmful and 30 harmless" in found["missing"][0]
    assert h.shape == (len(few),) and np.isnan(h).all()


def test_prompts_whose_stream_overflows_are_left_out(llm, prompts):
    some = prompts[::3]

    def overflow(module: torch.nn.Module, given: object, out: torch.Tensor) -> None:
        out[0] = torch.inf  # the first of each batch

    hook = llm.model.get_decoder().layers[0].register_forward_hook(overflow)
    try:
        sense, found, h = sense_of(llm, some, [llm.render(p.messages) for p in some], LOOSE)
    finally:
        hook.remove()
    assert sense is not None and np.isfinite(sense.weights).all()
    assert 0 < sum(found["prompts"].values()) < len(some)
    assert h.shape == (len(some),) and 0 < np.isnan(h).sum() < len(some)


def test_layers_from_a_quarter_of_the_depth_to_the_last_but_one():
    assert candidates(24) == (6, 9, 12, 14, 17, 20, 23)
    assert candidates(4) == (1, 2, 3) and candidates(2) == (1,) and candidates(1) == (1,)
    assert len(candidates(80)) == 7


def test_kinds_of_prompts():
    cases = [("harmful", None), ("harmful", "f"), ("task", None), ("benign", None), ("benign", "f"), ("borderline", "f")]
    found = [cell(asked("x", kind, family=family)) for kind, family in cases]
    assert found == ["bare", "jailbroken", "plain", "plain", "wrapped", "borderline"]


def test_sources_are_families_sets_topics_or_actions():
    collected = [asked("advbench-1", "harmful"), asked("tdc2023-7", "harmful"), asked("gsm8k-train-2"), asked("mtbench-1")]
    assert sources(collected) == ["advbench", "tdc2023", "gsm8k-train", "mtbench"]
    wrapped = [asked("a-1", "harmful", family="dan"), asked("b-1", family="dan")]
    assert sources(wrapped) == ["family dan"] * 2
    one_file = [asked(f"suite-{i}", kind, topic=topic) for i, (kind, topic) in
                enumerate([("harmful", "arms"), ("harmful", "fraud"), ("benign", "food"), ("benign", "food")])]  # fmt: skip
    assert sources(one_file) == ["arms", "fraud", "suite-2", "suite-3"]
    acts = [dataclasses.replace(p, topic=None, action="same") for p in one_file[2:]]
    assert sources([*one_file[:2], *acts])[2:] == ["same", "same"]
