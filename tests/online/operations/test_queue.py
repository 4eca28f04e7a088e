"""The queue of an installation: looked at, decided about, redacted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from online.admission.review import ReviewError
from online.operations import queue
from online.operations.installation import Installation
from tests.online.operations.installed import contested

NOBODY = "0" * 32


def test_a_decision_shows_at_the_next_look_and_is_on_record(here: Installation) -> None:
    with here.buffer() as buffer:
        buffer.append([contested(number) for number in range(3)])
    first = queue.look(here).prompts[0]
    queue.decide(here, "prompt", [first.prompt], "exclude", actor="test")
    assert {one.prompt: one.fate for one in queue.look(here).prompts}[first.prompt] == "excluded"
    (client,) = queue.client_hashes(here, ["a-key"])
    queue.decide(here, "client", [client], "exclude", actor="test")
    assert queue.look(here).excluded == (client,) and here.state.audit_path.read_text().count('"actor": "test"') == 2


def test_a_prompt_is_redacted_by_rules_of_its_own_process(here: Installation) -> None:
    text = "Write to jane@example.com"
    with here.buffer() as buffer:
        buffer.append([replace(contested(1), prompt=text)])
    (one,) = queue.look(here).prompts
    assert queue.redact(here, [one.prompt], actor="test") == 1
    with here.buffer() as buffer:
        assert [event.prompt for event in buffer.events()] == ["Write to <EMAIL>"]
    with pytest.raises(ReviewError, match="no event has such a prompt"):
        queue.redact(here, [NOBODY], actor="test")


def test_tokens_read_as_the_model_spells_them(here: Installation) -> None:
    spelled = queue.words(here, [9, 5, 9])
    assert list(spelled) == [5, 9] and all(isinstance(word, str) and word for word in spelled.values())
