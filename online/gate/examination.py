"""An examination: candidate and references are asked look by look, until the decision stands.

Scores come first: they take a forward pass a prompt, and prove what is to be proved. Where they reject, no answer is asked.
Where they let a candidate pass, only as many are asked as it takes to see that they contradict nothing. Where they decide
nothing, those of one look are, for they may still reject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from online.gate.answers import Answers
from online.gate.claims import backed_by_likelihood
from online.gate.figures import answer_figures, score_figures
from online.gate.gate import Findings, GateReport, by_answers, by_scores, decided
from online.gate.held_out import HeldOut, Rows
from online.gate.look import ONLY, Look, looks
from online.gate.scores import Scores
from online.settings.groups import GateSettings

CANDIDATE = "candidate"
T = TypeVar("T", Scores, Answers)


class Examined(Protocol):
    """Whoever is examined: the candidate ("candidate") and each reference, at some rows of what is held out."""

    def score(self, name: str, rows: Rows) -> Scores: ...

    def answer(self, name: str, rows: Rows) -> Answers: ...


def examine(
    held_out: HeldOut, examined: Examined, references: Sequence[str], settings: GateSettings, luck: str = ""
) -> GateReport:
    """What the gate decides, at the first of `gate.looks` looks at scores, and then at answers, at which that stands.

    Nobody is asked what is not looked at. Where likelihoods prove utility, answers to tasks are a check, and those of the
    first look are enough. luck: draws which prompts come first.
    """
    names = (CANDIDATE, *references)
    scores, answers = _Part[Scores](held_out, names), _Part[Answers](held_out, names)
    for look, rows in looks(held_out, settings.looks, luck):
        scores.ask(look, rows, examined.score)
        scored = by_scores(scores.seen, *_split(scores.joined(Scores)), settings, look)
        if scored.final:
            break
    answered: Findings | None = None
    if not scored.reject:
        backed = backed_by_likelihood(scores.seen.prompts, *_split(scores.joined(Scores)))
        for look, rows in looks(held_out, settings.looks, luck):
            if not look.first and all(backed.values()):
                rows = held_out.without_tasks(rows)
            answers.ask(look, rows, examined.answer)
            answered = by_answers(answers.seen, *_split(answers.joined(Answers)), backed, settings, look)
            if answered.final or not scored.passed:
                break
    return decided(scored, answered, _figures(scores, answers), scores.look or ONLY, answers.look)


@dataclass
class _Part(Generic[T]):
    """All that was seen of scores, or of answers."""

    held_out: HeldOut
    names: Sequence[str]
    look: Look | None = None
    rows: list[Rows] = field(default_factory=list)
    found: dict[str, list[T]] = field(default_factory=dict)

    def ask(self, look: Look, rows: Rows, of: Any) -> None:
        """Add what a look adds."""
        self.look = look
        if not self.rows or len(rows.asked) or len(rows.traffic):
            self.rows.append(rows)
            for name in self.names:
                self.found.setdefault(name, []).append(of(name, rows))

    @property
    def seen(self) -> HeldOut:
        whole = (np.sort(np.concatenate([getattr(one, what) for one in self.rows])) for what in ("asked", "traffic"))
        return self.held_out.some(Rows(*whole))

    def joined(self, kind: type[T]) -> dict[str, T]:
        return {name: kind.joined(parts, self.rows) for name, parts in self.found.items()}


def _split(found: Mapping[str, T]) -> tuple[T, dict[str, T]]:
    """The candidate's, and the references'."""
    return found[CANDIDATE], {name: one for name, one in found.items() if name != CANDIDATE}


def _figures(scores: _Part[Scores], answers: _Part[Answers]) -> dict[str, Any]:
    """By name, references first."""
    scored = scores.joined(Scores)
    figures = {name: score_figures(scores.seen.prompts, scored[name]) for name in (*scores.names[1:], CANDIDATE)}
    for name, one in answers.joined(Answers).items():
        figures[name] |= answer_figures(answers.seen.prompts, one)
    return figures
