"""The training set of an update: newest first in, sorted, and the same again from a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import models
from guard.calibration import Bands, Calibration
from online.admission.queue import Queue
from online.events.buffer import Buffer
from online.settings.groups import UpdateSettings
from online.settings.settings import Settings
from online.training.ledger import Ledger, LedgerError
from online.training.selector import Selection
from online.training.training_set import TrainingSet
from tests.online.admission.waiting import NEW, SALT, event, queue
from tests.online.events.traffic import SETTINGS, url

PROMPTS = [(9, 1), (5, 1), (7, 1)]


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    """One with three prompts, each newer than the one before."""
    opened = Buffer(url(tmp_path / "buffer.sqlite"), SETTINGS)
    opened.append([event(at, prompt, when=NEW + at) for at, prompt in enumerate(PROMPTS)])
    yield opened
    opened.close()


@pytest.fixture
def waiting(buffer: Buffer) -> Queue:
    return queue(buffer)


def test_the_newest_are_taken_and_sorted(waiting: Queue) -> None:
    assert TrainingSet.newest(waiting, 2).prompts == [(5, 1), (7, 1)]
    assert TrainingSet.newest(waiting, 9).prompts == sorted(PROMPTS)
    left = replace(waiting, prompts=[replace(one, fate="excluded") for one in waiting.prompts])
    assert TrainingSet.newest(left, 9).prompts == []


def test_a_ledger_brings_the_same_prompts_until_one_is_gone(buffer: Buffer, waiting: Queue) -> None:
    newest = TrainingSet.newest(waiting, 9)
    selection = Selection.sorted_by(Bands(0.3, 0.6), list(newest.prompts), [0.9, 0.5, 0.1])
    ledger = Ledger.of(newest.until, newest.events, selection, SALT)
    again = TrainingSet.named(buffer, ledger, SALT)
    assert (again.prompts, again.until) == (newest.prompts, newest.until)
    assert again.as_it_was_sorted(ledger, SALT, selection.bands) == selection
    sure = Selection.sorted_by(selection.bands, selection.prompts, selection.masses, [2.0, -1.5, -3.0])
    both = sure.beside(Selection.sorted_by(selection.bands, [(8, 8), (6, 6)], [0.1, 0.4], [-2.0, -1.0]))
    noted = Ledger.of(newest.until, newest.events, both, SALT)
    assert len(both.prompts) == 5 and again.as_it_was_sorted(noted, SALT, selection.bands) == both
    earlier = replace(ledger, entries=tuple(replace(entry, mass=None) for entry in ledger.entries))
    with pytest.raises(LedgerError, match=r"noted no masses, so it cannot be taught again\.$"):
        again.as_it_was_sorted(earlier, SALT, selection.bands)
    buffer.delete([ledger.entries[0].id])
    with pytest.raises(LedgerError, match="1 of the prompts are no longer in the buffer"):
        TrainingSet.named(buffer, ledger, SALT)


def test_a_ledger_brings_prompts_that_were_cut_as_they_were_cut(buffer: Buffer) -> None:
    buffer.append([event(9, range(100, 140), when=NEW)])
    cut = Settings(queue={"prompt_tokens": 16, "long_prompts": "truncate"})
    newest = TrainingSet.newest(queue(buffer, cut), 9)
    assert (*range(100, 108), *range(132, 140)) in newest.prompts
    selection = Selection.sorted_by(Bands(0.3, 0.6), list(newest.prompts), [0.9, 0.5, 0.4, 0.1])
    ledger = Ledger.of(newest.until, newest.events, selection, SALT, cut.queue.cut)
    assert TrainingSet.named(buffer, ledger, SALT).prompts == newest.prompts
    with pytest.raises(LedgerError):
        TrainingSet.named(buffer, replace(ledger, cut=None), SALT)


def test_its_digest_changes_with_all_that_decides_the_adapter_and_nothing_else(waiting: Queue) -> None:
    base, learn = Calibration.load(models.bundled() / "calibration.json"), UpdateSettings()
    prompts, masses, bands = TrainingSet.newest(waiting, 9).prompts, [0.9, 0.5, 0.1], Bands(0.3, 0.6)
    chosen = Selection.sorted_by(bands, prompts, masses)
    digest = TrainingSet.digest(chosen, base, learn, "model")
    assert TrainingSet.digest(chosen, replace(base, conditions=None, root=()), learn, "model") == digest
    others = [
        TrainingSet.digest(chosen.only([1, 2]), base, learn, "model"),
        TrainingSet.digest(Selection.sorted_by(bands, prompts, [0.9, 0.5, 0.1 + 1e-12]), base, learn, "model"),
        TrainingSet.digest(Selection.sorted_by(bands, prompts, masses, [1.0, 2.0, 3.0]), base, learn, "model"),
        TrainingSet.digest(chosen, replace(base, entropy_cut=base.entropy_cut + 1), learn, "model"),
        TrainingSet.digest(chosen, base, UpdateSettings(seed=learn.seed + 1), "model"),
        TrainingSet.digest(chosen, base, learn, "other"),
    ]
    assert len({digest, *others}) == 7
