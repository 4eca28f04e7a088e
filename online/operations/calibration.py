"""Calibrating the base, or one version of it, from labelled prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
from evaluation import load_suite
from evaluation.judges import judge_of
from guard.calibration import Calibration
from guard.errors import SirlError
from online.calibration.calibrate import calibrate as measured
from online.model.checkpoint import configuration
from online.model.learnable import OPENING, inexact, narrow_window
from online.model.served_model import load_as_served
from online.operations.installation import Installation
from online.operations.suites import judge_named, speaks_bundled_grammar
from online.operations.versions import version_of


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was calibrated ("base" or "v<N>"), on how many prompts, and the outcome, which is stored."""

    adapter: str
    prompts: int
    calibration: Calibration


def calibrate(installation: Installation, adapter: str, suite: Path | None = None) -> Calibrated:
    """Learn openings and bands of the base or one version, and store them. Raises SirlError for a model that is none of ours
    without labelled prompts, CalibrationError where nothing can be learned from them."""
    settings, model, registry = installation.settings, installation.model, installation.registry
    learn = settings.update
    version = None if adapter == "base" else version_of(adapter)
    ours = speaks_bundled_grammar(model)
    if suite is None and not ours:
        raise SirlError(f"{model} is not a bundled model: give labelled prompts with --suite FILE.")
    prompts = load_suite(suite or models.suite("calibration"))
    held = [] if suite else load_suite(models.suite("validation"))
    llm = load_as_served(settings, model)
    longest = max(len(llm.render(prompt.messages)) for prompt in (*prompts, *held))
    if window := narrow_window(configuration(model), longest):
        raise SirlError(
            f"The attention of {model} sees {window} tokens back and the suite asks prompts of {longest}: leave out those "
            f"of more than {window - OPENING}."
        )
    if reason := inexact(llm):
        raise SirlError(f"{model} cannot be calibrated, for {reason}.")
    limits: dict[str, Any] = {"seed": learn.seed, "max_tokens": learn.max_tokens}
    limits |= {"held": held, "settings": settings.calibrate}
    named = judge_named(settings, ours=ours)
    limits["named"], judge = named, judge_of(named)
    if version is None:
        made = measured(llm, adapter, prompts, judge, registry.base, **limits)
        made.save(installation.state.calibration_path(adapter))
    else:
        registry.verify(version)
        adapter = f"v{version}"
        llm.load_adapter(adapter, registry.path(version))
        with llm.adapter(adapter):
            made = measured(llm, adapter, prompts, judge, registry.base, **limits)
        registry.attach(version, "calibration", made.to_json())
        installation.synchronise()
    return Calibrated(adapter, len(prompts), made)
