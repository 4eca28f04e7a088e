"""What must not be stored is not stored, and the rest is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from benchmarks.redaction import measure
from online.events.event import Event
from online.events.recognisers import Span, spans
from online.events.redaction import Preparation, Redaction
from online.events.redactor import RedactionError, presidio, redact
from online.settings.groups import BufferSettings

EVENT = Event(
    "0" * 32, 0.0, "base", "plain", "Write to jane@example.com", (1, 2, 3), "Done, Jane", (4, 5), (0.1, 0.2), 0.15, 0.5,
    "stop", "c",
)  # fmt: skip


def encode(text: str) -> list[int]:
    return list(text.encode())


def here(texts: Sequence[str]) -> list[str | None]:
    """The redactor's work in this process."""
    return [redact(text) for text in texts]


def test_what_overlaps_is_one_and_all_of_it_goes() -> None:
    def find(text: str) -> Iterator[Span]:
        yield 3, 6, "NAME"
        yield 0, 4, "KEY"
        yield 5, 9, "IP"

    assert redact("0123456789", find) == "<NAME>9"


def test_the_built_in_rules_on_messages_they_were_not_made_for() -> None:
    """Floors under what docs/evidence/attacks.md reports."""
    counts = measure(spans)
    for kind, least in (("mail", 0.97), ("phone", 0.85), ("card", 0.95), ("key", 0.9)):
        found = counts["", kind]
        assert found.values >= 50 and found.gone / found.values >= least, kind
    assert counts["", ""].right / counts["", ""].replaced >= 0.97


def test_tokens_say_no_more_than_the_text() -> None:
    (found,) = Redaction(here, encode)([EVENT])
    assert found is not None
    assert found.prompt == "Write to <EMAIL>" and found.prompt_tokens == tuple(b"Write to <EMAIL>")
    assert (found.response, found.response_tokens, found.entropies) == (EVENT.response, (4, 5), EVENT.entropies)
    (named,) = Redaction(here, encode)([replace(EVENT, prompt="Hello", response="My name is Jane Doe")])
    assert named is not None and named.prompt_tokens == EVENT.prompt_tokens
    assert named.response_tokens == tuple(b"My name is <NAME>") and named.entropies == ()
    assert named.entropy_mean == EVENT.entropy_mean


def test_what_is_kept_is_as_the_operator_says() -> None:
    prepared = {}
    for text in ("full", "redacted", "hash"):
        with closing(Preparation(BufferSettings(text=text), encode, "salt")) as preparation:
            (prepared[text],) = preparation([EVENT])
            assert (preparation.redactor.pid is not None) == (text == "redacted"), "what redacts nothing starts no process"
    assert prepared["full"] == EVENT and "jane@" not in prepared["redacted"].prompt
    hashed = prepared["hash"]
    assert not hashed.prompt_tokens and not hashed.response and not hashed.response_tokens and not hashed.entropies
    assert "jane" not in hashed.to_json().lower()
    hashing = Preparation(BufferSettings(text="hash"), encode, "salt")
    again, other = hashing([replace(EVENT, id="1" * 32), replace(EVENT, prompt_tokens=(9,))])
    assert again.prompt == hashed.prompt != other.prompt


def test_what_redaction_chokes_on_is_kept_without_text_and_the_rest_with_it(caplog: pytest.LogCaptureFixture) -> None:
    preparation = Preparation(BufferSettings(), encode, "salt")
    preparation.close()
    preparation.redaction = Redaction(lambda texts: [None if "Write" in text else text for text in texts], encode)
    kept, other = preparation([EVENT, replace(EVENT, prompt="Read")])
    assert "jane" not in kept.to_json().lower() and kept.verdict == EVENT.verdict and other.prompt == "Read"

    def broken(text: str) -> list[int]:
        raise RuntimeError(f"no: {text}")

    preparation.redaction = Redaction(here, broken)
    (kept,) = preparation([EVENT])
    assert "jane" not in kept.to_json().lower() and "RuntimeError" in caplog.text and "Write" not in caplog.text


def test_a_recogniser_that_is_not_there_is_named() -> None:
    with pytest.raises(RedactionError, match="not installed"):
        presidio({"en": "no_such_pipeline"})
    with pytest.raises(RedactionError, match="not installed"):
        Preparation(BufferSettings(presidio={"en": "no_such_pipeline"}), encode, "salt")
