"""The training set of an update: what the queue admits, or what a ledger names."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from guard.calibration import Bands, Calibration
from guard.openings import Tokens
from online.admission.queue import Queue
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash, without_middle
from online.model.local_model import LocalModel
from online.settings.groups import QueueSettings, UpdateSettings
from online.training.ledger import Entry, Ledger, LedgerError, OwnPrompt
from online.training.own_prompts import own_prompts
from online.training.presets import PRESETS
from online.training.quotas import within_quotas
from online.training.selector import Selection, select

log = logging.getLogger("sirl")

HELD = 10
"""One in so many prompts of the low band, by its salted hash, is never taught: the gate asks what learning never saw."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Distinct prompts, sorted, and the events that they came with, all before `until` (unix time, seconds); and some of the
    low band that are never taught, the newest first, for the gate to ask."""

    until: float
    prompts: Sequence[Tokens]
    events: Sequence[Event]
    held: Sequence[Tokens] = ()

    @classmethod
    def newest(cls, queue: Queue, most: int) -> Self:
        """The newest prompts that are admitted, at most so many. Sorted, for the same prompts must teach the same adapter in
        whatever order clients happened to send them."""
        admitted = [one.tokens for one in queue.prompts if one.admitted]
        return cls(queue.until, sorted(admitted[:most]), queue.events)

    @classmethod
    def named(cls, buffer: Buffer, ledger: Ledger, salt: str) -> Self:
        """Those of a ledger once more. Raises LedgerError where a prompt is no longer in the buffer."""
        events = buffer.named([entry.id for entry in ledger.entries])
        asked = (without_middle(event.prompt_tokens, ledger.cut) for event in events)
        prompts = {prompt_hash(tokens, salt): tokens for tokens in asked}
        if gone := {entry.prompt for entry in ledger.entries} - prompts.keys():
            raise LedgerError(
                f"{len(gone)} of the prompts are no longer in the buffer, so it cannot be taught again: they were deleted, "
                "or are older than buffer.max_age_days."
            )
        return cls(ledger.until, sorted(prompts.values()), events)

    @classmethod
    def chosen(
        cls, queue: Queue, llm: LocalModel, base: Calibration, learn: UpdateSettings, rules: QueueSettings
    ) -> tuple[Self, Selection, dict[str, int]]:
        """What an update teaches: the newest, as the frozen base sorts them and quotas leave them, and how many prompts were
        left out for which reason."""
        newest, queued = cls.newest(queue, learn.steps * learn.screened_per_step), {one.tokens: one for one in queue.prompts}
        found = _sorted(llm, newest.prompts, base, learn)
        allowed, over = within_quotas(found, queued, rules)
        left = {f"over the {kind} quota": count for kind, count in over.items()}
        if found.harms is not None:
            sided = len(found.high) + len(found.grey) + len(found.low)
            left["of which the harm sense is not sure"] = len(found.prompts) - sided
        low = {i for i in allowed.low if int(queued[allowed.prompts[i]].prompt[:8], 16) % HELD == 0}
        held = sorted((allowed.prompts[i] for i in low), key=lambda tokens: (-queued[tokens].event.time, tokens))
        selection = allowed.only({*allowed.high, *allowed.grey, *allowed.low} - low)
        return replace(newest, prompts=selection.prompts, held=held), selection, left

    def as_it_was_sorted(self, ledger: Ledger, salt: str, bands: Bands) -> Selection:
        """The selection of these prompts, and of the model's own, that a ledger notes. Raises LedgerError where it has no
        masses."""
        noted = {entry.prompt: entry for entry in ledger.entries}
        entries = [noted[prompt_hash(tokens, salt)] for tokens in self.prompts]
        masses = [entry.mass for entry in entries if entry.mass is not None]
        if len(masses) < len(entries):
            raise LedgerError("Its ledger is an earlier sirl-guard's, which noted no masses, so it cannot be taught again.")
        every: list[Entry | OwnPrompt] = [*entries, *ledger.own]
        harms = [one.harm for one in every if one.harm is not None]
        prompts = [*self.prompts, *(one.tokens for one in ledger.own)]
        known = harms if every and len(harms) == len(every) else None
        return Selection.sorted_by(bands, prompts, [*masses, *(one.mass for one in ledger.own)], known)

    @staticmethod
    def digest(selection: Selection, base: Calibration, learn: UpdateSettings, model: str) -> str:
        """Of all that decides which adapter comes of a selection: its prompts and where the base put them, to the bit, the
        base and its calibration, settings."""
        # When it holds, by whom it was measured, and what is watched, decide nothing.
        measured = replace(base, conditions=None, judge=None, suite=None, root=()).to_json()
        where = [selection.prompts, selection.masses, selection.harms]
        decisive = [where, measured, learn.model_dump(mode="json"), model]
        return f"sha256:{hashlib.sha256(json.dumps(decisive).encode()).hexdigest()}"


def beside_own(llm: LocalModel, selection: Selection, base: Calibration, learn: UpdateSettings) -> Selection:
    """With as many prompts beside it as the model is to make up itself: none where nothing anchors or is steered, or where
    the model as it becomes would sort them among those to learn from."""
    preset = PRESETS[learn.preset]
    if preset.live or not (preset.anchored or preset.two_sided):
        return selection
    with llm.adapter(None):
        own = own_prompts(llm, learn.own_prompts, seed=learn.seed)
    if len(own) < learn.own_prompts:
        log.warning("The model made up %d prompts where update.own_prompts asks for %d.", len(own), learn.own_prompts)
    return selection.beside(_sorted(llm, own, base, learn)) if own else selection


def _sorted(llm: LocalModel, prompts: Sequence[Tokens], base: Calibration, learn: UpdateSettings) -> Selection:
    """As the frozen base sorts them: by its harm sense too, where the preset has it so."""
    sense = base.sense if PRESETS[learn.preset].sensed else None
    return select(llm, prompts, base.openings, base.tree_mass, sense=sense)
