"""Learned openings: how deep they go, how well they hold on others, and when that is too little."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.statistics import wilson
from guard.calibration import CalibrationError
from guard.openings import Openings
from online.calibration.learned_openings import FOLDS, LabelledSamples, LearnedOpenings, learn_openings
from online.settings.groups import CalibrateSettings

SORRY, BUT, HEAR, SURE = (1, 2, 3, 4, 5), (6, 7), (8, 9), (20, 21)
"""Five tokens that refusals and condolences share, how either goes on, and an answer."""
ASKED = CalibrateSettings()


def labelled(*parts: tuple[bool, tuple[int, ...], int]) -> LabelledSamples:
    """(whether it refuses, its tokens, how often), each with a word of its own behind it, to a prompt of its own."""
    rows = [(no, tokens) for no, tokens, count in parts for _ in range(count)]
    return LabelledSamples(
        [(*tokens, 100 + at) for at, (_, tokens) in enumerate(rows)],
        np.array([no for no, _ in rows]),
        [f"prompt {at}" for at in range(len(rows))],
    )


def test_the_tree_goes_as_deep_as_refusals_and_condolences_part() -> None:
    samples = labelled((True, SORRY + BUT, 40), (False, SORRY + HEAR, 40), (False, SURE, 60))
    found = learn_openings(samples, ASKED)
    assert found.openings.sequences == ((*SORRY, BUT[0]),)
    assert (found.recall.estimate, found.false.estimate) == (1.0, 0.0)
    assert (found.recall.n, found.false.n) == (40, 100)
    found.check(ASKED)


def test_languages_stand_beside_each_other() -> None:
    samples = labelled((True, (1, 2), 30), (True, (31, 32), 30), (True, (41, 42, 43), 30), (False, (41, 42, 44), 60))
    assert learn_openings(samples, ASKED).openings.sequences == ((1,), (31,), (41, 42, 43))


def test_a_tree_is_made_deeper_for_a_point_of_recall_and_not_for_less() -> None:
    common = [(True, (1, 2), 400), (False, SORRY[1:] + HEAR, 100), (False, SURE, 300)]
    rare, more = (labelled(*common, (True, SORRY[1:] + BUT, count)) for count in (3, 12))
    assert learn_openings(rare, ASKED).openings.sequences == ((1,),)
    assert learn_openings(more, ASKED).openings.sequences == ((1,), (*SORRY[1:], BUT[0]))


def test_a_depth_within_the_limits_goes_before_a_better_one_beyond() -> None:
    """A deeper one would recall all refusals, and catch one answer in a thousand."""
    samples = labelled((True, (1,), 94), (True, (3, 4), 6), (False, SURE, 990), (False, (3, 5), 9), (False, (3, 4), 1))
    assert learn_openings(samples, CalibrateSettings(openings_false=0.5)).openings.sequences == ((1,), (3, 4))
    assert learn_openings(samples, CalibrateSettings(openings_false=0.05)).openings.sequences == ((1,),)


def test_shares_are_of_samples_that_taught_nothing() -> None:
    """Refusals that begin by the topic of one prompt are all recalled by openings learned from them, and by no others."""
    topics = [(True, (50 + at // 2,), 1) for at in range(60)]
    samples = labelled(*topics, (False, SURE, 100))
    paired = LabelledSamples(samples.responses, samples.refused, [f"{at // 2}" for at in range(160)])
    unpaired = LabelledSamples(samples.responses, samples.refused, [f"{at}" for at in range(160)])
    assert not learn_openings(paired, ASKED).openings, "two samples of one prompt found nothing"
    found = learn_openings(unpaired, ASKED)
    assert len(found.openings.sequences) == 30 and found.recall.estimate < 0.2
    with pytest.raises(CalibrationError, match="recall"):
        found.check(ASKED)


def test_no_source_is_in_two_parts_and_parts_are_alike_in_size() -> None:
    samples = labelled((True, (1,), 57), (False, SURE, 57))
    twice = LabelledSamples(samples.responses, samples.refused, [f"prompt {at % 57}" for at in range(114)])
    folds = twice.folds()
    assert (folds[:57] == folds[57:]).all()
    counts = np.bincount(folds[:57], minlength=FOLDS)
    assert counts.max() - counts.min() <= 1 and len(counts) == FOLDS


@pytest.mark.parametrize("refused", [True, False])
def test_nothing_is_learned_from_one_side_alone(refused: bool) -> None:
    found = learn_openings(labelled((refused, (1,), 20)), ASKED)
    assert not found.openings and {found.recall.n, found.false.n} == {0, 20}


def learned(recall: tuple[int, int] = (95, 100), false: tuple[int, int] = (1, 100)) -> LearnedOpenings:
    return LearnedOpenings(Openings(((1,),)), wilson(*recall), wilson(*false))


@pytest.mark.parametrize("found", [learned(), learned(recall=(44, 50)), learned(recall=(9, 39)), learned(false=(3, 60))])
def test_what_may_be_chance_is_no_reason_to_refuse(found: LearnedOpenings) -> None:
    found.check(ASKED)


def test_a_recall_that_is_surely_too_low_is_named_with_its_mend() -> None:
    found = learned(recall=(55, 100))
    with pytest.raises(CalibrationError, match="recall 55% of the refusals .* 70% are asked: give more harmful") as caught:
        found.check(ASKED)
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith("calibrate.openings_recall.")
    found.check(CalibrateSettings(openings_recall=50.0))


def test_a_false_rate_that_is_surely_too_high_is_named_with_its_mend() -> None:
    found = learned(false=(10, 100))
    with pytest.raises(CalibrationError, match="begin 10% of the other responses .* 3% are allowed: give more") as caught:
        found.check(ASKED)
    assert str(caught.value).count(". ") == 0 and str(caught.value).endswith("calibrate.openings_false.")
    found.check(CalibrateSettings(openings_false=10.0))
