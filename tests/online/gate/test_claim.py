"""A claim at its looks errs as seldom as it says, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from evaluation.statistics import wilson
from online.gate.claim import FEW, FUTILE, Claim, weigh
from online.gate.look import ONLY, Look
from online.settings.groups import GateSettings

MARGIN, POWER = 0.02, 0.8
SETTINGS = GateSettings(refreshes=1, power=POWER)
PROMPTS = 300


def pairs(luck: np.random.Generator, change: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """Masses before and after: most prompts keep theirs, one in five moves by much."""
    before = luck.beta(0.3, 1.5, PROMPTS)
    moved = luck.random(PROMPTS) < 0.2
    return before, before + change + moved * luck.choice([-1, 1], PROMPTS) * deviation / np.sqrt(0.2)


def ends(change: float, deviation: float, of: int, seed: int, trials: int) -> tuple[list[str], list[int]]:
    """What a claim came to in each exam, and after how many prompts."""
    luck, found, asked = np.random.default_rng(seed), [], []
    for _ in range(trials):
        before, after = pairs(luck, change, deviation)
        for look in (Look(number, of) for number in range(1, of + 1)):
            n = int(PROMPTS * look.share)
            names = tuple(map(str, range(n)))
            row = weigh(Claim("mass", "base", before[:n], after[:n], names, MARGIN, True), SETTINGS, look)
            if row["result"] != "open":
                break
        found.append(row["result"])
        asked.append(n)
    return found, asked


DEVIATION = MARGIN * np.sqrt(PROMPTS) / 2.487
"""At which 300 prompts show no change with a power of .8, at an error of .05 and one look."""


def test_at_the_margin_no_more_are_shown_than_the_error_over_all_looks() -> None:
    found, _ = ends(MARGIN, DEVIATION, 3, 0, 3000)
    for result in ("shown", "contradicted"):
        share = wilson(found.count(result), len(found), 0.99)
        assert share.low < SETTINGS.error and share.estimate > 0.01, "and the error is spent, not given away"


def test_power_is_kept_and_prompts_are_saved() -> None:
    (once, all_), (found, asked) = (ends(0.0, DEVIATION, of, 2, 1500) for of in (1, 3))
    assert abs(once.count("shown") / 1500 - POWER) < 0.04 and set(all_) == {PROMPTS}
    assert found.count("shown") > once.count("shown") - 0.07 * 1500 and np.mean(asked) < 0.9 * PROMPTS


def test_what_is_plain_is_decided_early() -> None:
    found, asked = ends(-0.05, DEVIATION, 3, 3, 500)
    assert found.count("shown") > 480 and np.mean(asked) < 0.4 * PROMPTS
    found, asked = ends(0.08, DEVIATION, 3, 3, 500)
    assert "shown" not in found and found.count("contradicted") > 400 and np.mean(asked) < 0.5 * PROMPTS


def test_what_cannot_be_shown_any_more_is_given_up() -> None:
    found, asked = ends(2 * MARGIN, 2 * DEVIATION, 3, 4, 500)
    assert "shown" not in found[:100] and found.count("too few prompts") > 250 and np.mean(asked) < 0.6 * PROMPTS
    assert 0 < FUTILE < 1 - POWER


def test_of_few_prompts_nothing_is_shown_and_of_one_look_nothing_is_left_open() -> None:
    few = Claim("mass", "base", np.zeros(20), np.full(20, -1.0), tuple(map(str, range(20))), MARGIN, True)
    assert weigh(few, SETTINGS, Look(1, 3))["result"] == "open" and weigh(few, SETTINGS, ONLY)["result"] == "too few prompts"
    one = Claim("mass", "base", np.zeros(1), np.zeros(1), ("a",), MARGIN, True)
    assert weigh(one, SETTINGS, Look(1, 3))["result"] == "open"


def test_of_a_part_all_masses_are_waited_for_and_outcomes_are_not() -> None:
    names, early = tuple(map(str, range(8))), Look(1, 3)
    one = (np.arange(8) == 0).astype(float)

    def result(rise: np.ndarray, part: str, look: Look = early) -> str:
        return weigh(Claim("lost", "base", np.zeros(8), rise, names, 0.03, False, part=part), SETTINGS, look)["result"]

    assert result(one, "") == "open" and result(one, "AIM") == "consistent"
    assert result(-0.5 * one, "") == "consistent" and result(-0.5 * one, "AIM") == "open"
    assert result(0.5 * one, "AIM", ONLY) == "consistent"
    assert result(np.ones(8), "AIM") == result(np.full(8, 0.1), "AIM") == "contradicted"
    few = Claim("lost", "base", np.zeros(FEW - 1), np.full(FEW - 1, 0.5), names[: FEW - 1], 0.03, False, part="AIM")
    assert [weigh(few, SETTINGS, look)["result"] for look in (early, ONLY)] == ["open", "consistent"]


def shown(tasks: int, clusters: int, look: Look, gained: int = 0) -> dict:
    """A proof by outcomes: of the first tasks some are gained, or lost where negative, and all others stay."""
    names = tuple(str(at % clusters) for at in range(tasks))
    wrong = [(np.arange(tasks) < count).astype(float) for count in (gained, -gained)]
    return weigh(Claim("lost", "base", *wrong, names, 0.025, True), GateSettings(), look)


def test_tasks_that_all_stay_show_no_more_than_their_number_can() -> None:
    """Of 150 tasks none is lost in 2% of exams where 2.5% truly are, and the first look may spend .03%."""
    early = shown(150, 150, Look(1, 3))
    assert early["result"] == "open" and early["power"] == 0 and early["change"]["high"] > 0.05
    assert shown(150, 150, Look(1, 3), gained=1)["result"] == "open", "one gain makes the error no better known"
    assert shown(150, 150, Look(1, 3), gained=15)["result"] == "shown"
    assert shown(300, 300, Look(2, 3))["result"] == shown(600, 500, Look(3, 3))["result"] == "shown"
    few = shown(300, 150, ONLY)
    assert few["result"] == "too few prompts" and few["needed"] == 2 * 210, "it is clusters that count"
    assert shown(few["needed"], 210, ONLY)["result"] == "shown"


@pytest.mark.parametrize(("look", "tasks"), [(Look(1, 3), 150), (Look(2, 3), 300), (Look(3, 3), 600), (ONLY, 600)])
def test_tasks_lost_at_the_margin_are_shown_no_more_often_than_a_look_may_err(look: Look, tasks: int) -> None:
    """Exactly, where none is gained: so many are lost with a binomial's chance."""
    passed = [lost for lost in range(21) if shown(tasks, tasks, look, gained=-lost)["result"] == "shown"]
    assert binom.pmf(passed, tasks, 0.025).sum() <= look.error(GateSettings().error)
    assert passed == [*range(len(passed))] and (len(passed) > 0) == (look.number > 1 or look.last), "and some may be"


def test_nothing_is_given_up_before_there_are_prompts_enough_to_show_it() -> None:
    noisy, names = np.tile([0.5, -0.5], 20), tuple(map(str, range(40)))
    early, late = (Claim("mass", "base", np.zeros(n), noisy[:n], names[:n], MARGIN, True) for n in (10, 40))
    assert weigh(early, GateSettings(), Look(1, 6))["result"] == "open"
    assert weigh(late, GateSettings(), Look(1, 3))["result"] == "too few prompts", "which forty say"


def test_a_check_waits_while_its_mean_is_over_what_is_allowed_and_what_another_claim_proves_does_not() -> None:
    def result(rise: float, look: Look, **how: bool) -> str:
        noisy, names = np.tile([-1.0, 1.0], 20), tuple(map(str, range(40)))
        return weigh(Claim("solved", "base", noisy, 2 * noisy + rise, names, MARGIN, **how), SETTINGS, look)["result"]

    for how, waits in (({"proof": False}, "open"), ({"proof": True, "backed": True}, "consistent")):
        assert [result(rise, Look(1, 3), **how) for rise in (0, 0.1, 2)] == ["consistent", waits, "contradicted"]
        assert [result(rise, Look(3, 3), **how) for rise in (0, 0.1, 2)] == ["consistent", "consistent", "contradicted"]
