"""What operators decide holds, is on record, and leaves no text where it was redacted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from online.admission.queue import Queue
from online.admission.review import SUMMARY, ReviewError, described, redact_prompts, review, summarise, summary
from online.events.buffer import Buffer
from online.events.event import Event, prompt_hash
from online.events.redaction import Redaction
from online.events.redactor import redact
from online.settings.groups import BufferSettings
from online.settings.settings import Settings
from online.state.directory import StateDir

MODEL = "m"
REDACTION = Redaction(lambda texts: [redact(text) for text in texts], str.encode)
TEXTS = ("Write to jane@example.com", "Tell me more", "Write to jane@example.com")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


@pytest.fixture
def buffer(state: StateDir) -> Iterator[Buffer]:
    opened = Buffer(state.buffer_url, BufferSettings())
    opened.append(
        [
            Event(
                f"{at:032x}",
                float(at),
                "base",
                "plain",
                text,
                tuple(text.encode()),
                "",
                (),
                (),
                0.1,
                None,
                "stop",
                "c",
                MODEL,
            )
            for at, text in enumerate(TEXTS)
        ]
    )
    yield opened
    opened.close()


def queue(state: StateDir, buffer: Buffer) -> Queue:
    return Queue.of(buffer, MODEL, 1e9, Settings(), state.client_salt())


def named(state: StateDir, text: str) -> str:
    return prompt_hash(tuple(text.encode()), state.client_salt())


def audited(state: StateDir) -> list[dict]:
    return [json.loads(line) for line in state.audit_path.read_text().splitlines()]


def test_a_decision_holds_until_it_is_taken_back_and_is_on_record(state: StateDir, buffer: Buffer) -> None:
    name = named(state, TEXTS[0])
    for decision, fate in (("exclude", "excluded"), ("approve", "approved"), ("reset", "queued")):
        review(state, buffer, "prompt", [name], decision, "cli")
        assert {one.prompt: one.fate for one in queue(state, buffer).prompts}[name] == fate
        last = audited(state)[-1]
        assert (last["event"], last["decision"], last["names"], last["actor"]) == ("queue.reviewed", decision, [name], "cli")


def test_what_cannot_be_decided_is_said(state: StateDir, buffer: Buffer) -> None:
    with pytest.raises(ReviewError, match="no hash of a prompt"):
        review(state, buffer, "prompt", ["nonsense"], "approve", "cli")
    with pytest.raises(ReviewError, match="only its prompts"):
        review(state, buffer, "client", ["0" * 32], "approve", "cli")
    with pytest.raises(ReviewError, match="no event"):
        redact_prompts(state, buffer, MODEL, ["0" * 32], REDACTION, "cli")
    assert not state.audit_path.exists()


def test_a_redacted_prompt_leaves_nothing_behind(state: StateDir, buffer: Buffer) -> None:
    assert redact_prompts(state, buffer, MODEL, [named(state, TEXTS[0])], REDACTION, "cli") == 2
    assert sorted(event.prompt for event in buffer.events()) == ["Tell me more", "Write to <EMAIL>", "Write to <EMAIL>"]
    assert bytes(queue(state, buffer).prompts[0].tokens) == b"Write to <EMAIL>"
    assert not any(b"jane@" in file.read_bytes() for file in state.path.glob("buffer*"))
    assert audited(state)[-1]["event"] == "queue.redacted"


def test_what_the_rules_find_nothing_in_is_kept_without_text_and_decisions_are_carried_over(
    state: StateDir, buffer: Buffer
) -> None:
    review(state, buffer, "prompt", [named(state, TEXTS[0]), named(state, TEXTS[1])], "exclude", "cli")
    redact_prompts(state, buffer, MODEL, [named(state, TEXTS[0])], REDACTION, "cli")
    assert queue(state, buffer).counts()["excluded"] == 2
    redact_prompts(state, buffer, MODEL, [named(state, TEXTS[1])], REDACTION, "cli")
    assert [one.event.prompt for one in queue(state, buffer).prompts] == ["Write to <EMAIL>"]
    assert not any(b"Tell me more" in file.read_bytes() for file in state.path.glob("buffer*"))


def test_a_prompt_is_told_with_its_text_or_without(state: StateDir, buffer: Buffer) -> None:
    found = queue(state, buffer)
    assert not any("jane" in json.dumps(described(one, text=False)) for one in found.prompts)
    assert {described(one, text=True)["text"] for one in found.prompts} == set(TEXTS)
    summarise(state, found)
    assert summary(state)["queued"] == 2
    (state.path / SUMMARY).write_text(json.dumps({"time": 0.0, "counts": {"queued": 2}}))
    assert set(summary(state).values()) == {0}
