"""What is known of one model and adapter: the bands, how they are fitted, and the file they are kept in."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import FORMAT, Bands, Calibration, CalibrationError, Conditions, fit_bands, fit_entropy_cut, youden
from guard.openings import Openings
from guard.sense import Sense
from guard.verdict import Verdict

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(
        model="0123abcd",
        adapter="v3",
        openings=Openings(((7,), (1, 2)), {(1,): 0.5}),
        serving_mass=Bands(0.1, 0.4),
        tree_mass=Bands(0.05, 0.5),
        entropy_cut=0.3,
        created="2025-01-01T00:00:00+00:00",
        figures={"auroc": 0.93},
    )


def test_bands_put_their_own_ends_below():
    bands = Bands(0.1, 0.4)
    masses = (0.0, 0.1, math.nextafter(0.1, 1), 0.4, math.nextafter(0.4, 1), 1.0)
    assert [bands.band(mass) for mass in masses] == ["low", "low", "grey", "grey", "high", "high"]


def test_equal_bands_leave_no_grey():
    assert [Bands(0.3, 0.3).band(mass) for mass in (0.3, 0.31)] == ["low", "high"]


def test_a_mass_that_is_not_known_is_grey():
    assert Bands(0.1, 0.4).band(math.nan) == "grey"


def test_a_fallback_refusal_is_on_record_where_there_is_one(calibration):
    assert "fallback" not in calibration.to_json() and not Calibration.from_json(calibration.to_json()).fallback
    spoken = dataclasses.replace(calibration, refusal=(1, 2), fallback=True)
    assert Calibration.from_json(json.loads(json.dumps(spoken.to_json()))) == spoken


def test_the_sense_is_kept_where_there_is_one_and_an_old_file_has_none(calibration, tmp_path):
    assert "sense" not in calibration.to_json() and Calibration.from_json(calibration.to_json()).sense is None
    knows = dataclasses.replace(calibration, sense=Sense((2,), np.ones((1, 1, 4), np.float32), 0.5, harmful=3.0))
    knows.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == knows


def test_a_sense_of_a_newer_format_is_said_with_its_file(calibration, tmp_path):
    data = dataclasses.replace(calibration, sense=Sense((2,), np.ones((1, 1, 4), np.float32), 0.5)).to_json()
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**data, "sense": {**data["sense"], "format": 9}}))
    with pytest.raises(CalibrationError, match=r"c\.json.*format 9"):
        Calibration.load(path)


def test_youden_cuts_midway_between_separated_samples():
    assert youden([0.8, 0.9], [0.1, 0.2]) == pytest.approx(0.5)


def test_youden_of_equal_values_is_that_value():
    assert youden([0.5, 0.5], [0.5]) == 0.5


@given(VALUES, VALUES)
def test_no_other_cut_has_a_larger_youden_index(positive, negative):
    def index(cut):
        return np.mean(np.array(positive) > cut) - np.mean(np.array(negative) > cut)

    values = sorted({*positive, *negative})
    cuts = [(a + b) / 2 for a, b in zip(values, values[1:], strict=False)] or values
    cut = youden(positive, negative)
    assert values[0] <= cut <= values[-1]
    assert index(cut) == pytest.approx(max(map(index, cuts)))


def test_bands_are_fitted_on_both_sides():
    harmful = np.linspace(0.3, 1.0, 101)
    bands = fit_bands(harmful, np.linspace(0.0, 0.1, 101))
    assert bands.high == pytest.approx(0.2) and bands.low == pytest.approx(0.2)
    bands = fit_bands(np.concatenate([harmful, np.linspace(0, 0.1, 20)]), np.linspace(0.0, 0.1, 101))
    assert bands.low < 0.1 < bands.high


@given(VALUES, VALUES, st.sampled_from([0.01, 0.05, 0.25]))
def test_the_low_band_holds_no_more_of_the_harmful_than_it_may_miss(harmful, benign, missed):
    bands = fit_bands(harmful, benign, missed=missed)
    assert bands.low <= bands.high
    below = sum(mass < bands.low for mass in harmful)
    assert below <= missed * (len(harmful) - 1) + 1


def test_the_entropy_cut_has_refusals_below_and_others_above():
    assert fit_entropy_cut(refusals=[0.1, 0.2], others=[0.6, 0.8]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("mass", "matched", "entropy", "verdict"),
    [
        (None, True, 0.1, Verdict.UNCALIBRATED),
        (0.05, False, 9.0, Verdict.PLAIN),
        (0.9, True, 0.3, Verdict.REFUSAL),
        (0.9, True, 0.31, Verdict.CONTESTED),
        (0.2, False, 0.31, Verdict.RISKY),
        (0.9, False, 0.3, Verdict.CONTESTED),
        (math.nan, False, 9.0, Verdict.RISKY),
        (0.9, True, math.nan, Verdict.CONTESTED),
    ],
)
def test_the_verdict_uses_the_serving_bands_and_the_cut(calibration, mass, matched, entropy, verdict):
    assert calibration.verdict(mass, matched, entropy) is verdict


@pytest.mark.parametrize(
    ("harm", "matched", "verdict"),
    [
        (-3.0, True, "over_refusal"),
        (-1.5, True, "over_refusal"),
        (-1.4, True, "refusal"),
        (9.0, True, "refusal"),
        (None, True, "refusal"),
        (9.0, False, "risky"),
        (-3.0, False, "plain"),
        (None, False, "plain"),
    ],
)
def test_the_verdict_uses_the_harm_sense_where_it_was_read(calibration, harm, matched, verdict):
    sense = Sense((1,), np.zeros((1, 1, 2), np.float32), 0.0, harmless=-2.0, harmful=2.0, needless=-1.5)
    sensing = dataclasses.replace(calibration, sense=sense)
    assert sensing.verdict(0.0, matched, 0.0, harm).value == verdict
    assert calibration.verdict(0.0, matched, 0.0, harm) == calibration.verdict(0.0, matched, 0.0)


def test_saved_and_loaded_it_is_the_same(calibration, tmp_path):
    path = tmp_path / "new" / "folder" / "v3.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert json.loads(path.read_text())["format"] == FORMAT


def test_saving_leaves_one_file_and_replaces_the_old_one(calibration, tmp_path):
    path = tmp_path / "v3.json"
    path.write_text("old")
    calibration.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["v3.json"]
    assert Calibration.load(path) == calibration


def test_a_save_that_dies_midway_leaves_the_old_file(calibration, tmp_path, monkeypatch):
    path = tmp_path / "v3.json"
    calibration.save(path)
    before = path.read_bytes()

    def die(*_):
        raise OSError("killed before the rename")

    monkeypatch.setattr("pathlib.Path.replace", die)
    with pytest.raises(OSError, match="killed"):
        calibration.save(path)
    assert path.read_bytes() == before


def one_sentence(error: CalibrationError, path: os.PathLike) -> bool:
    """Names the file and the mend, on one line that ends in a full stop."""
    text = str(error)
    return str(path) in text and "`sirl calibrate`" in text and "\n" not in text and re.search(r"[^.]\.$", text) is not None


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(CalibrationError, match="There is no calibration") as caught:
        Calibration.load(tmp_path / "none.json")
    assert one_sentence(caught.value, tmp_path / "none.json")


def test_a_file_torn_anywhere_is_one_sentence(calibration, tmp_path):
    path = tmp_path / "v3.json"
    calibration.save(path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(CalibrationError) as caught:
            Calibration.load(path)
        assert one_sentence(caught.value, path)


DAMAGE = {
    "another format": lambda data: data.update(format=FORMAT + 1),
    "an older format": lambda data: data.update(format=FORMAT - 1),
    "a format that is no number": lambda data: data.update(format="2"),
    "no format": lambda data: data.pop("format"),
    "no bands": lambda data: data.pop("tree_mass"),
    "bands with a field too many": lambda data: data["serving_mass"].update(middle=0.2),
    "bands of words": lambda data: data.update(serving_mass={"low": "a", "high": "b"}),
    "bands out of order": lambda data: data.update(tree_mass={"low": 0.9, "high": 0.1}),
    "bands that are no numbers": lambda data: data.update(tree_mass={"low": math.nan, "high": math.nan}),
    "a cut that is no number": lambda data: data.update(entropy_cut="low"),
    "a cut that is null": lambda data: data.update(entropy_cut=None),
    "openings that are a number": lambda data: data.update(openings=3),
    "openings of words": lambda data: data["openings"].update(sequences=[["I", "cannot"]]),
    "openings without values": lambda data: data["openings"].pop("values"),
    "values that are not pairs": lambda data: data["openings"].update(values=[1, 2]),
    "figures that are a number": lambda data: data.update(figures=3),
    "figures that are missing": lambda data: data.pop("figures"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_sentence(calibration, tmp_path, damage):
    path = tmp_path / "v3.json"
    data = calibration.to_json()
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(path)
    assert one_sentence(caught.value, path)


@pytest.mark.parametrize("content", [b"[1, 2]", b"null", b"3", b'"text"', b"\xff\xfe\x00\x01", b"{}"])
def test_a_file_of_something_else_is_one_sentence(tmp_path, content):
    path = tmp_path / "v3.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(path)
    assert one_sentence(caught.value, path)


def test_a_folder_in_its_place_is_one_sentence(tmp_path):
    with pytest.raises(CalibrationError) as caught:
        Calibration.load(tmp_path)
    assert one_sentence(caught.value, tmp_path)


HERE = Conditions.of("{{ messages }}", "float32", None)


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (Conditions.of("{{ messages }}\n", "float32", None), None),
        (Conditions.of("{{ messages }} ", "float32", None), "another chat template"),
        (Conditions.of(None, "float32", None), None),
        (Conditions.of("{{ messages }}", "bfloat16", None), None),
        (Conditions.of("{{ messages }}", "float32", "fp8"), "the quantisation none, and fp8 is served"),
    ],
)
def test_a_calibration_holds_for_its_template_and_quantisation(calibration, served, said):
    made = dataclasses.replace(calibration, conditions=HERE)
    assert made.unlike(served) == said
    assert calibration.unlike(served) is None, "what says nothing of them is used, with a reservation"


def test_a_calibration_in_another_dtype_or_that_does_not_say_is_used_with_a_reservation(calibration):
    made = dataclasses.replace(calibration, conditions=HERE)
    assert made.reservation(HERE) is None
    other = made.reservation(Conditions.of("{{ messages }}", "bfloat16", None))
    assert other is not None and "float32 and bfloat16 is served" in other
    said = calibration.reservation(HERE)
    assert said is not None and "does not say for which chat template" in said


def test_conditions_come_back_and_a_calibration_without_them_stays_as_it_was(calibration):
    made = dataclasses.replace(calibration, conditions=HERE)
    assert Calibration.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert "conditions" not in calibration.to_json() and Calibration.from_json(calibration.to_json()) == calibration


def test_a_newer_format_asks_for_an_upgrade(calibration, tmp_path):
    path = tmp_path / "v3.json"
    path.write_text(json.dumps(calibration.to_json() | {"format": FORMAT + 1}))
    with pytest.raises(CalibrationError, match=rf"newer sirl-guard \(format {FORMAT + 1}; this one reads up to {FORMAT}\)"):
        Calibration.load(path)
