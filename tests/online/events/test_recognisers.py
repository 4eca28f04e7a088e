"""The built-in rules: what they find, what they leave alone, and that no text makes them slow."""

from __future__ import annotations

import random
import re
import signal
import string
from collections.abc import Iterator
from contextlib import contextmanager
from re import _constants as op  # what a pattern is made of: nothing public tells
from re import _parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.events.recognisers import DIGITS, RULES, is_card, is_iban
from online.events.redactor import redact

PATTERNS = [*(rule.pattern for rule in RULES), DIGITS]
"""What searches whole texts; what looks at the surroundings of a find sees some 80 characters."""
LENGTHS = (16_384, 65_536, 262_144)
PUMPS = 80
"""Places of a sample text that are repeated, a pattern."""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("mail j.d+x@mail.example.co.uk.", "mail <EMAIL>."),
        ("call +44 20 7946 0958 or (212) 555-0187 or 030 901820", "call <PHONE> or <PHONE> or <PHONE>"),
        ("dial (+34) 954 27 81 60, on 12/10/2023 0209460958", "dial <PHONE>, on 12/10/2023 <PHONE>"),
        ("pay with 4111 1111 1111 1111!", "pay with <CARD>!"),
        ("to DE89 3704 0044 0532 0130 00 please", "to <IBAN> please"),
        ("from 10.1.2.3 and 2001:db8::1", "from <IP> and <IP>"),
        ("http://203.0.113.7/x, 198.51.100.7:3000, ip:10.1.2.3, fe80::1.", "http://<IP>/x, <IP>:3000, ip:<IP>, <IP>."),
        ('if ip == "10.1.2.3" and ip > 10.1.2.3', 'if ip == "<IP>" and ip > <IP>'),
        ("host=10.1.2.3, server 10.1.2.3 has version 1.2.3.4", "host=<IP>, server <IP> has version 1.2.3.4"),
        ("postgres://me:pa55word@db/x", "postgres://me:<KEY>@db/x"),
        ("my password is: hunter2xy", "my password is: <KEY>"),
        ("my password is hunter2xy", "my password is <KEY>"),
        ("the password for the server is Blue-4471-marsh", "the password for the server is <KEY>"),
        ("Das Passwort lautet Teich_88", "Das Passwort lautet <KEY>"),
        ("la password del wifi è Lago_41", "la password del wifi è <KEY>"),
        ("password: swordfish", "password: <KEY>"),
        ("my password is 4711abc, pwd=Summer(2024)!, token: $ecret12", "my password is <KEY>, pwd=<KEY>, token: <KEY>"),
        ("DB_PASSWORD=Gravel!7, secret = 'correcthorse'", "DB_PASSWORD=<KEY>, secret = '<KEY>'"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nand so on", "<KEY>\nand so on"),
        ("Mein Name ist Jürgen Müller-Lüdenscheid.", "Mein Name ist <NAME>."),
        ("me llamo José de la Cruz y", "me llamo <NAME> y"),
        ("Dear Mr Hollis, Mrs. Montero's car, M. Tchikaya", "Dear Mr <NAME>, Mrs. <NAME>'s car, M. <NAME>"),
        ("Name: Ebony Moore Phone: none", "Name: <NAME> Phone: none"),
        ("Dear Jane We met Mr Hollis The Elder.", "Dear <NAME> We met Mr <NAME> The Elder."),
        ("Name: Jane Email: none", "Name: <NAME> Email: none"),
        ("From: Karen Whitfield <k@x.org>", "From: <NAME> <<EMAIL>>"),
    ],
)  # fmt: skip
def test_what_goes(text: str, wanted: str) -> None:
    assert redact(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        # A password needs to look like one, where words tell of it.
        "My password is incorrect",
        "my password is incorrect, and the token is invalid. Why?",
        "Mein Passwort ist ungültig, mi contraseña es incorrecta, le mot de passe est oublié, la password è sbagliata",
        "the password is case-sensitive, 8-character and base64-encoded; the token is 2048-bit",
        "The pass for travelling is COVID-19, the next token is GPT-4-like",
        "The token is JavaScript, the secret is working hard, my api key is rejected",
        "password: required, token: string",
        "The secret: patience is a virtue",
        "token = get_token()\npassword = request.form['password']\napi_key = os.environ['KEY123']",
        "password=${DB_PASS2}, API_KEY: $API_KEY, token: <your-token-1>, secret: YOUR_API_KEY",
        "compass: northward, bypass = disabled",
        "sk-learn-compatible-estimators-rock",
        # Numbers of four parts that count versions and headings.
        "upgrade to version 4.18.2.1 now",
        "from version 4.18.2.0 to 4.18.2.1, release 1.2.3.4 or 1.2.3.5, 1.2.3.6 build",
        "Chrome/120.0.0.0, log4j-1.2.17.1, foo==1.2.3.4, foo>=1.2.3.4, § 1.2.3.4, section 1.2.3.4, kernel 5.10.0.1",
        "127.0.0.1:3000, 0.0.0.0, ::1, 255.255.255.0",
        # Brands, fiction and roles that bear a title or are addressed.
        "Dr Pepper, Dr. No, Dr. Seuss, Mr. Bean, Mr President, Madame Bovary, Don Quixote",
        "Dear Hiring Manager, Dear Customer, Dear ARR Reviewer, Liebe Kolleginnen und Kollegen, Estimado Cliente",
        "Best regards,\nARR EiCs",
        "My name is X, from: ChatGPT",
        "Faithfully,\nHuman Resources",
        "the A.M. Turing Award, J. M. Barrie, Sr Software Engineer, call me back, Call me Maybe",
        "Customer: Hello! Can I pay?\nCustomer: Yes please.\nCustomer: Can you help me?",
        "Name: Spirit II E-210 Gas Grill\nName: Deluxe Widget 3000",
        # Figures that are none of these.
        "std::vector, 12:30 and a::",
        "What is 12 * 34567 + 1000000 in 2024, 3.1415926535 or 1 2 3 4 5 6 7 8?",
        "ISBN 978-3-16-148410-0, ISBN 0-306-40615-2 at 12:30:45, version 3.11.7 of 12/10/2023",
        "Date\n05/12/2021\n03:29 PM, 01.09.2018, 2024-02-19 23:11:04,552 INFO (118204/274893)",
        "git clone git@github.com:numpy/numpy.git",
        "<EMAIL> and <NAME> stay",
    ],
)
def test_what_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_any_text_is_redacted_and_once_is_enough(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.integers(10**11, 10**18 - 1).map(str))
def test_cards_and_accounts_have_check_digits(figures: str) -> None:
    """Against the definitions: of ten last figures one makes a card, of a hundred check digits one makes an account."""
    assert sum(is_card(figures + last) for last in "0123456789") == (len(set(figures)) > 1 or figures[0] != "0")
    assert sum(is_iban(f"DE{check:02d}{figures:0>18}") for check in range(2, 99)) == 1


@pytest.mark.parametrize("at", range(16_384 - 30, 16_384 + 5, 5))
def test_what_lies_across_pieces_is_found(at: int) -> None:
    text = "word " * (at // 5) + "jane.doe@mail.example.com, 4111 1111 1111 1111 and so on " + "word " * 200
    assert redact(text) == "word " * (at // 5) + "<EMAIL>, <CARD> and so on " + "word " * 200


# Texts that are made to stall a search


class TooSlowError(Exception):
    pass


@contextmanager
def processor_time(seconds: float) -> Iterator[None]:
    """Raises TooSlowError after that much of this process's own time; a search lets signals in."""

    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def sample(parsed, rng: random.Random) -> str:
    """A text, or nearly one, that a parsed pattern matches: what it looks for, in an order in which it looks for it."""
    made = []
    for code, value in parsed:
        if code in (op.LITERAL, op.NOT_LITERAL):
            made.append(chr(value) if code is op.LITERAL else rng.choice(string.ascii_letters))
        elif code is op.IN:
            made.append(one_of(value, rng))
        elif code is op.ANY:
            made.append(rng.choice("a1 "))
        elif code is op.BRANCH:
            made.append(sample(rng.choice(value[1]), rng))
        elif code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            least, most, inner = value
            made.extend(sample(inner, rng) for _ in range(rng.randint(least, max(least, min(most, least + 2)))))
        elif code is op.SUBPATTERN:
            made.append(sample(value[-1], rng))
        elif code is op.ATOMIC_GROUP:
            made.append(sample(value, rng))
        else:
            assert code in (op.AT, op.ASSERT, op.ASSERT_NOT, op.GROUPREF), f"what does {code} look for?"
    return "".join(made)


def one_of(members, rng: random.Random) -> str:
    """A character of a class."""
    found, negated = [], False
    for code, value in members:
        if code is op.NEGATE:
            negated = True
        elif code is op.LITERAL:
            found.append(chr(value))
        elif code is op.RANGE:
            found.append(chr(rng.randint(*value)))
        else:
            found.extend({op.CATEGORY_DIGIT: "19", op.CATEGORY_WORD: "aZ1_", op.CATEGORY_SPACE: " \n"}.get(value, "a"))
    outside = [c for c in "aZ1 .-@" if c not in found]
    return rng.choice(outside if negated else found)


def hostile(pattern: re.Pattern[str], length: int) -> Iterator[str]:
    """Texts of that length in which a part of what a pattern looks for is repeated: it begins, or goes on, everywhere and
    ends nowhere."""
    parsed, rng = _parser.parse(pattern.pattern, pattern.flags), random.Random(pattern.pattern)
    for _ in range(PUMPS):
        text = sample(parsed, rng)
        start = rng.randrange(len(text))
        end = rng.randrange(start, min(len(text), start + rng.choice((1, 2, 4, 16, 64)))) + 1
        before, part = text[:start], text[start:end]
        yield (before + part * (length // len(part)))[:length]
        yield (part * (length // len(part) + 1))[:length]
        yield (text[:end] * (length // end + 1))[:length]
        yield before + rng.choice(" \t\n1aA.-_@:/") * length


@pytest.mark.parametrize("pattern", PATTERNS, ids=range(len(PATTERNS)))
def test_no_text_makes_a_pattern_slow(pattern: re.Pattern[str]) -> None:
    """What is linear searches the longest in some tens of milliseconds; what is quadratic would take minutes for it."""
    for length in LENGTHS[:2]:
        for text in hostile(pattern, length):
            with processor_time(0.5):
                for _ in pattern.finditer(text):
                    pass


SHAPES = [
    "token is" + " " * 16_000,
    "token is \t" * 8_000,
    "password a b c d ",
    "eyJaaaaaaaa-",
    "de ",
    "Dear Aa de ",
    "a:b@",
]
RUNS = [*" \t\n.@:/-_+1aA=(\"'", "a.", "a@", "1.", "1:", "1 ", "+1", "a:", "://", "a://b:", "eyJ", "Aa1", "Dear ", "token=",
        "(0", "0 ", "01/", "1-", "sk-", "SG.",
        "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "M. ", "Mr Aa", "v1.", "\u00a01"]  # fmt: skip


@pytest.mark.parametrize("shape", [*SHAPES, *RUNS])
def test_no_text_makes_redaction_slow(shape: str) -> None:
    for length in LENGTHS:
        with processor_time(10.0):
            redact((shape * (length // len(shape) + 1))[:length])


def test_a_pattern_that_is_quadratic_would_be_caught() -> None:
    with pytest.raises(TooSlowError):
        for text in hostile(re.compile(r"token\s+is\s*:?\s+\S"), LENGTHS[1]):
            with processor_time(0.5):
                re.search(r"token\s+is\s*:?\s+\S", text)
