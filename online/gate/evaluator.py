"""The evaluator: labelled suites with their judge, and the model that is measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evaluation import Judge, Prompt
from guard.calibration import Calibration
from guard.openings import Openings
from online.calibration.calibrate import calibrate, digest
from online.gate.answers import Answers, answer
from online.gate.held_out import HeldOut, Rows
from online.gate.scores import Scores, score
from online.model.local_model import LocalModel
from online.settings.groups import CalibrateSettings


@dataclass(frozen=True, slots=True)
class Suites:
    """Labelled prompts of one model and the judge that reads its answers; updates measure with them, never learn.

    calibration: to calibrate on; validation: to check calibrations and looks on the way; gate: what a candidate's held-out
    prompts are drawn from; extra, vetoes: the operator's own, by name; named: the judge as settings spell it.
    """

    calibration: Sequence[Prompt]
    validation: Sequence[Prompt]
    gate: Sequence[Prompt]
    judge: Judge
    extra: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    vetoes: Mapping[str, Sequence[Prompt]] = field(default_factory=dict)
    named: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The base with what it and candidates are measured by: its suites, and seed and length of what is sampled; what the
    gate asks has lengths of its own."""

    llm: LocalModel
    suites: Suites
    seed: int
    max_tokens: int
    answer_tokens: int
    task_tokens: int

    @property
    def limits(self) -> dict[str, int]:
        return {"seed": self.seed, "max_tokens": self.max_tokens}

    def calibrated(self, name: str, base: str, settings: CalibrateSettings) -> Calibration:
        """A calibration of the model as it answers now; base: its base's fingerprint."""
        suites = self.suites
        return calibrate(
            self.llm,
            name,
            suites.calibration,
            suites.judge,
            base,
            named=suites.named,
            held=suites.validation,
            settings=settings,
            seed=self.seed,
            max_tokens=self.max_tokens,
        )

    def stale(self, found: Calibration) -> bool:
        """Whether a calibration was made for other conditions than the model runs under, or measured by another judge or
        suite."""
        suites = self.suites
        measured = found.measured_unlike(suites.named, digest(suites.calibration))
        return bool(found.unlike(self.llm.conditions) or measured)

    def scored(self, held_out: HeldOut, openings: Openings, adapter: str | None, rows: Rows | None = None) -> Scores:
        """Scores of an adapter, or of the base, on held-out prompts, or on those at some rows."""
        with self.llm.adapter(adapter):
            return score(self.llm, held_out, openings, rows=rows)

    def answered(self, held_out: HeldOut, adapter: str | None, rows: Rows | None = None) -> Answers:
        """What it answers to them."""
        limits = {**self.limits, "answer_tokens": self.answer_tokens, "task_tokens": self.task_tokens}
        with self.llm.adapter(adapter):
            return answer(self.llm, held_out, self.suites.judge, rows=rows, **limits)
