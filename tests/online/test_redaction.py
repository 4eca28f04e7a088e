"""What must not be stored is not stored, and the rest is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.redaction import measure
from online.event import Event
from online.options import BufferSettings
from online.redaction import Preparation, Redaction, RedactionError, Span, is_card, is_iban, presidio, redact, spans

EVENT = Event(
    "0" * 32, 0.0, "base", "plain", "Write to jane@example.com", (1, 2, 3), "Done, Jane", (4, 5), (0.1, 0.2), 0.15, 0.5,
    "stop", "c",
)  # fmt: skip


def encode(text: str) -> list[int]:
    return list(text.encode())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mail j.d+x@mail.example.co.uk.", "mail <EMAIL>."),
        ("call +44 20 7946 0958 or (212) 555-0187 or 030 901820", "call <PHONE> or <PHONE> or <PHONE>"),
        ("pay with 4111 1111 1111 1111!", "pay with <CARD>!"),
        ("to DE89 3704 0044 0532 0130 00 please", "to <IBAN> please"),
        ("from 10.1.2.3 and 2001:db8::1", "from <IP> and <IP>"),
        ("http://203.0.113.7/x, 198.51.100.7:3000, ip:10.1.2.3, fe80::1.", "http://<IP>/x, <IP>:3000, ip:<IP>, <IP>."),
        ("std::vector, 12:30 and a::", None),
        ("postgres://me:pa55word@db/x", "postgres://me:<KEY>@db/x"),
        ("my password is: hunter2xy", "my password is: <KEY>"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nand so on", "<KEY>\nand so on"),
        ("Mein Name ist Jürgen Müller-Lüdenscheid.", "Mein Name ist <NAME>."),
        ("me llamo José de la Cruz y", "me llamo <NAME> y"),
        ("What is 12 * 34567 + 1000000 in 2024, 3.1415926535 or 1 2 3 4 5 6 7 8?", None),
        ("ISBN 978-3-16-148410-0 at 12:30:45, version 3.11.7 of 12/10/2023", None),
        ("<EMAIL> and <NAME> stay", None),
    ],
)
def test_shapes_are_known_and_figures_are_left_alone(text: str, wanted: str | None) -> None:
    assert redact(text) == (text if wanted is None else wanted)


@pytest.mark.parametrize(
    "piece", ["a", "a.", "a@", "1.", "1:", "1 ", "+1", "a:", "://", "a://b:", "eyJ", "Aa1", "Dear ", "token="]
)
def test_a_long_text_made_to_stall_it_does_not(piece: str) -> None:
    """A pattern that is quadratic in any of these would run for hours."""
    redact(piece * 200_000)


@pytest.mark.parametrize("at", range(16_384 - 30, 16_384 + 5, 5))
def test_what_lies_across_pieces_is_found(at: int) -> None:
    text = "word " * (at // 5) + "jane.doe@mail.example.com, 4111 1111 1111 1111 and so on " + "word " * 200
    assert redact(text) == "word " * (at // 5) + "<EMAIL>, <CARD> and so on " + "word " * 200


def test_what_overlaps_is_one_and_all_of_it_goes() -> None:
    def find(text: str) -> Iterator[Span]:
        yield 3, 6, "NAME"
        yield 0, 4, "KEY"
        yield 5, 9, "IP"

    assert redact("0123456789", find) == "<NAME>9"


@given(st.text())
def test_any_text_is_redacted_and_once_is_enough(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.integers(10**11, 10**18 - 1).map(str))
def test_cards_and_accounts_have_check_digits(figures: str) -> None:
    """Against the definitions: of ten last figures one makes a card, of a hundred check digits one makes an account."""
    assert sum(is_card(figures + last) for last in "0123456789") == (len(set(figures)) > 1 or figures[0] != "0")
    assert sum(is_iban(f"DE{check:02d}{figures:0>18}") for check in range(2, 99)) == 1


def test_the_built_in_rules_on_messages_they_were_not_made_for() -> None:
    """Floors under what docs/security.md reports."""
    counts = measure(spans)
    for kind, least in (("mail", 0.97), ("phone", 0.75), ("card", 0.95), ("key", 0.6)):
        found = counts["", kind]
        assert found.values >= 50 and found.gone / found.values >= least, kind
    assert counts["", ""].right / counts["", ""].replaced >= 0.85


def test_tokens_say_no_more_than_the_text() -> None:
    found = Redaction(spans, encode)(EVENT)
    assert found.prompt == "Write to <EMAIL>" and found.prompt_tokens == tuple(b"Write to <EMAIL>")
    assert (found.response, found.response_tokens, found.entropies) == (EVENT.response, (4, 5), EVENT.entropies)
    named = Redaction(spans, encode)(replace(EVENT, prompt="Hello", response="My name is Jane Doe"))
    assert named.prompt_tokens == EVENT.prompt_tokens
    assert named.response_tokens == tuple(b"My name is <NAME>") and named.entropies == ()
    assert named.entropy_mean == EVENT.entropy_mean


def test_what_is_kept_is_as_the_operator_says() -> None:
    prepared = {text: Preparation(BufferSettings(text=text), encode, "salt")(EVENT) for text in ("full", "redacted", "hash")}
    assert prepared["full"] == EVENT and "jane@" not in prepared["redacted"].prompt
    hashed = prepared["hash"]
    assert not hashed.prompt_tokens and not hashed.response and not hashed.response_tokens and not hashed.entropies
    assert "jane" not in hashed.to_json().lower()
    again = Preparation(BufferSettings(text="hash"), encode, "salt")(replace(EVENT, id="1" * 32))
    other = Preparation(BufferSettings(text="hash"), encode, "salt")(replace(EVENT, prompt_tokens=(9,)))
    assert again.prompt == hashed.prompt != other.prompt


def test_what_redaction_chokes_on_is_kept_without_text(caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> Iterator[Span]:
        raise RuntimeError("no")

    preparation = Preparation(BufferSettings(), encode, "salt")
    preparation.redaction = Redaction(broken, encode)
    for _ in range(2):
        kept = preparation(EVENT)
        assert "jane" not in kept.to_json().lower() and kept.verdict == EVENT.verdict
    assert sum("Redaction broke" in record.message for record in caplog.records) == 1


def test_a_recogniser_that_is_not_there_is_named() -> None:
    with pytest.raises(RedactionError, match="not installed"):
        presidio({"en": "no_such_pipeline"})
