"""The harm sense on the bundled model: fitted on two of its suites, read on the third, beside the refusal mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import models
from evaluation import load_suite
from evaluation.statistics import auroc, wilson
from guard.calibration import Calibration
from online.calibration.sense import cell, sense_of
from online.model.local_model import LocalModel
from online.model.opening_trees import first_mass
from online.model.residual import harm_of
from online.settings.groups import CalibrateSettings

EACH = 3
"""Every how many-th prompt of the test suite is read."""
HARMLESS = ("plain", "wrapped", "borderline")


@torch.no_grad()
def bundled() -> dict[str, Any]:
    """AUROC of h and of the refusal mass at the first token, in wrappers seen and never seen, and what thresholds gave."""
    llm = LocalModel.load(models.bundled())
    fitted = [prompt for split in ("calibration", "validation") for prompt in load_suite(models.suite(split))]
    sense, told, _ = sense_of(llm, fitted, [llm.render(p.messages) for p in fitted], CalibrateSettings())
    assert sense is not None, "the suites are large"
    test = load_suite(models.suite("test"))[::EACH]
    asked = [llm.render(prompt.messages) for prompt in test]
    h = harm_of(llm, asked, sense)
    openings = Calibration.load(models.bundled() / "calibration.json").openings
    mass = first_mass(llm, asked, openings).double().numpy()
    cells, never = np.array([cell(p) for p in test]), np.array([p.novelty == "never" for p in test])
    found: dict[str, Any] = {"layers": list(sense.layers), "fitted": len(fitted), "missing": told["missing"]}
    for name, scores in (("h", h), ("refusal mass", mass)):
        found[name] = {
            "bare against plain": against(scores, cells == "bare", cells == "plain"),
            "bare against borderline": against(scores, cells == "bare", cells == "borderline"),
            "wrappers seen": against(scores, (cells == "jailbroken") & ~never, (cells == "wrapped") & ~never),
            "wrappers never seen": against(scores, (cells == "jailbroken") & never, (cells == "wrapped") & never),
        }
    bands = np.array([sense.band(x) for x in h])
    for band in ("harmful", "harmless"):
        found[f"counts as {band}"] = {
            f"{kind}, {'never seen' if new else 'seen'}": wilson(int((bands[of] == band).sum()), int(of.sum())).to_dict()
            for kind in ("bare", "jailbroken", *HARMLESS)
            for new in (False, True)
            if (of := (cells == kind) & (never == new)).any()
        }
    return found


def against(scores: NDArray[np.float64], high: NDArray[np.bool_], low: NDArray[np.bool_]) -> dict[str, float | int | None]:
    return auroc(scores[low], scores[high]).to_dict()
