"""The ledger: which events taught a version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guard.calibration import Bands
from online.events.event import prompt_hash
from online.training.ledger import FILE, Ledger, LedgerError, OwnPrompt
from online.training.selector import Selection
from tests.online.events.traffic import NOW, make

PROMPTS = ((1, 1), (2, 2), (3, 3))
SELECTION = Selection.sorted_by(Bands(0.3, 0.6), list(PROMPTS), [0.9, 0.5, 0.1])


def test_every_event_of_a_selected_prompt_is_named_with_its_band_and_no_text(tmp_path: Path) -> None:
    events = [replace(make(at), prompt_tokens=prompt) for at, prompt in enumerate((*PROMPTS, (4, 4), (1, 1)))]
    ledger = Ledger.of(NOW + 9, events[::-1], SELECTION, "salt")
    assert "cut" not in ledger.to_dict() and replace(ledger, cut=16).to_dict()["cut"] == 16
    assert [entry.band for entry in ledger.entries] == ["high", "grey", "low", "high"], "in order of time"
    assert [entry.id for entry in ledger.entries] == [event.id for event in (*events[:3], events[4])]
    assert {entry.prompt for entry in ledger.entries} == {prompt_hash(prompt, "salt") for prompt in PROMPTS}
    assert [(entry.mass, entry.harm) for entry in ledger.entries] == [(mass, None) for mass in (0.9, 0.5, 0.1, 0.9)]
    ledger.save(tmp_path)
    assert Ledger.load(tmp_path) == ledger and "prompt 0" not in (tmp_path / FILE).read_text()


def test_what_nobody_asked_is_the_models_own_and_in_it_whole(tmp_path: Path) -> None:
    ledger = Ledger.of(NOW, [replace(make(0), prompt_tokens=PROMPTS[1])], SELECTION, "salt")
    assert ledger.own == (OwnPrompt((1, 1), 0.9), OwnPrompt((3, 3), 0.1)) and len(ledger.entries) == 1
    ledger.save(tmp_path)
    assert Ledger.load(tmp_path) == ledger


def test_where_the_base_put_a_prompt_comes_back_to_the_bit(tmp_path: Path) -> None:
    masses, harms = (0.1 + 0.2, 1 / 3, 0.7), (1.1, -2.2 / 2.1, 0.0)
    events = [replace(make(at), prompt_tokens=prompt) for at, prompt in enumerate(PROMPTS)]
    found = Selection.sorted_by(Bands(0.3, 0.6), list(PROMPTS), masses, harms)
    Ledger.of(NOW + 9, events, found, "salt").save(tmp_path)
    entries = Ledger.load(tmp_path).entries
    sided = {*found.high, *found.grey, *found.low}
    assert [(e.mass, e.harm) for e in entries] == [(masses[at], harms[at]) for at in sorted(sided)] and len(sided) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"until": "x", "events": []}', '{"until": 1, "events": [{"id": "a"}]}'])
def test_one_that_cannot_be_read_is_a_sentence(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "v3"
    folder.mkdir()
    with pytest.raises(LedgerError, match=r"v3 has no ledger: .*\.$"):
        Ledger.load(folder)
    (folder / FILE).write_text(text)
    with pytest.raises(LedgerError, match=r"ledger of v3 cannot be read \(.*\): restore its folder\.$"):
        Ledger.load(folder)
