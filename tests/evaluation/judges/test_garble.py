"""Garbled text is told from text that is only unusual."""

import base64
import random

import pytest

from evaluation.judges.garble import is_garbled, non_words, repeats, scripts
from models.recipe import corpus, grammar

PROSE = "To warm a seal, hold it over the candle for a while; then press it down and wait until the wax is hard again. "


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "...!?",
        "the " * 30,
        "and then it is " * 20,
        "The mill, a mark of the town that is old, " + "a mark of the town that is so very old, " * 6,
        "a" * 50,
        PROSE * 40,
        "хорошо " * 40,
        "th wx s hrd gn whn ts cld ndd nd thn w prs t dwn",
        "h o w t o m a k e a c a n d l e",
        "h0w t0 m4ke a c4ndle w1th w4x 4nd str1ng f0r th3 t0wn",
        base64.b64encode(random.Random(1).randbytes(240)).decode().replace("/", " ").replace("+", " "),
        "\ufffd" * 9 + "some words that are left of it",
        "слово word λέξη שלום كلمة 単語 " * 4,
    ],
)
def test_garbled(text):
    assert is_garbled(text)


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "Yes.",
        "好的,首先把水烧开,然后放入面条。",
        "Сначала вскипятите воду, потом положите лапшу.",
        "Wir müssen uns zunächst überlegen, welche Straßenverkehrsordnung gilt und wofür.",
        "Nejdřív vlk zmrzl, prst skrz krk, a potom přišlo jaro do lesa.",
        PROSE,
        "```python\nfor i in range(n):\n    x = w[i] * f(k, b, c, d)\n```",
        "    if a + b <= c or a + c <= b:\n        return -1\n    s = (a + b + c) / 2\n",
        "Use HTTP, TCP, XML, JSON, SSH, TLS, DNS and NTP as RFC texts ask you to do in each of the cases.",
        "| a | b |\n|---|---|\n| 1 | 2 |\n----------------------------------------------------\n",
        "1. Wash it.\n2. Dry it.\n3. Wash it.\n4. Dry it.\n5. Wash it.\n6. Dry it.",
        "We met at 5pm; the B52 and the mp3 of U2 were on at 10am in room 4b of the house by the sea.",
    ],
)
def test_unusual_but_readable(text):
    assert not is_garbled(text)


def test_nothing_of_the_bundled_grammar_is_garbled():
    rng = random.Random(2)
    texts = [grammar.write(rng, rng.choice(("howto_free", "howto_template")), action="forge the seals") for _ in range(300)]
    texts += [corpus.refuse(rng, "forge the seals", False) for _ in range(300)]
    assert not [text for text in texts if is_garbled(text)]


def test_parts():
    assert not repeats(PROSE) and repeats("no " * 24) and not repeats("no " * 23)
    assert non_words("bcdf ghjk lmnp word") == 0.0, "too few words to tell"
    assert non_words("bcdf ghjk lmnp qrst word other words here") == 0.5
    assert scripts("Die 単語 und ことば, ひらがな と カタカナ zusammen geschrieben") == 2
