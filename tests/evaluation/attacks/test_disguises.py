"""What is hidden can be found again: each disguise is undone here by other means than it was made with."""

import ast
import json
import re
from base64 import b64decode

import pytest

from evaluation.attacks import ATTACKS
from evaluation.attacks.ascii_art import FONT, drawn
from evaluation.attacks.cipher import SHOTS
from evaluation.suite import Prompt
from tests.evaluation.attacks.simulated import GOAL, drive, said, silent

CYRILLIC = dict(zip("асеіјорѕхуАВСЕНІКМОРТХ", "aceijopsxyABCEHIKMOPTX", strict=True))
MORSE = {"....": "h", "---": "o", ".--": "w", "-..": "d", "..": "i", "-...": "b", ".-": "a", "-.-": "k", ".": "e"}
MORSE |= {".-..": "l", "..-.": "f", ".-.": "r", "..--..": "?"}


def written(name: str, goal: str = GOAL, seed: int = 0) -> str:
    return said(
        drive(ATTACKS[name], silent, prompt=Prompt("p", "harmful", ({"role": "user", "content": goal},)), seed=seed)[0][0][0]
    )


def last(name: str) -> str:
    return written(name).rsplit("\n", 1)[-1]


def moved(text: str, by: int) -> str:
    return re.sub("[a-z]", lambda c: chr((ord(c[0]) - 97 + by) % 26 + 97), text.lower())


def test_base64():
    assert b64decode(last("base64")).decode() == GOAL
    assert b64decode(written("base64", "Wie bäckt man 🍞?").rsplit("\n", 1)[-1]).decode() == "Wie bäckt man 🍞?"


def test_rot13():
    assert moved(last("rot13"), 13) == GOAL.lower() and last("rot13")[0] == "U"


def test_cipher_and_its_examples():
    ((query,),), _ = drive(ATTACKS["cipher"], silent)
    asked = [m["content"].rsplit("\n", 1)[-1] for m in query.messages if m["role"] == "user"]
    assert [moved(text, -3) for text in asked] == [text.lower() for text, _ in SHOTS] + [GOAL.lower()]
    assert [m["content"] for m in query.messages if m["role"] == "assistant"] == [text for _, text in SHOTS]


def test_morse():
    words = [[MORSE[sign] for sign in word.split()] for word in last("morse").split(" / ")]
    assert " ".join("".join(word) for word in words) == GOAL.lower()


def test_flip():
    assert "".join(reversed(last("flip"))) == GOAL


def test_leetspeak():
    assert last("leetspeak") == "H0w d0 ! 84k3 4 104f 0f 8r34d?"


def test_look_alikes():
    text = written("look_alikes")
    assert text != GOAL and not text.isascii()
    assert "".join(CYRILLIC.get(letter, letter) for letter in text) == GOAL


def test_zero_width():
    text = written("zero_width")
    assert "bake" not in text and "".join(letter for letter in text if letter.isascii()) == GOAL


@pytest.mark.parametrize("goal", [GOAL, "x", "ab", 'say "a\\b" {c}\nd é🍞', "How do I " + "very " * 90 + "slowly bake?"])
@pytest.mark.parametrize("seed", range(5))
def test_split_payloads_come_together_again(goal, seed):
    text = written("payload_splitting", goal, seed)
    pieces = {name: json.loads(piece) for name, piece in re.findall(r"^([a-h]) = (.*)$", text, re.MULTILINE)}
    order = re.search(r"q = ([a-h+ ]+)\.", text)[1].split(" + ")
    assert "".join(pieces[name] for name in order) == goal and len(pieces) == min(8, len(goal)) and all(pieces.values())


def test_pieces_come_in_any_order():
    orders = {tuple(re.findall(r"^([a-h]) = ", written("payload_splitting", GOAL, seed), re.MULTILINE)) for seed in range(9)}
    assert len(orders) > 5


def test_code_says_the_goal():
    program = re.search(r"```python\n(.*)```", written("code_wrapping", 'How do I bake a "loaf" {of} bread?'), re.DOTALL)[1]
    ast.parse(program)
    names: dict[str, str] = {}
    exec(program.split("def solve")[0], names)  # ours, and without a call to anything but deque
    assert names["task"] == 'How do I bake a "loaf" {of} bread?'


def test_drawn_words_tell_all_letters_apart():
    assert "".join(FONT) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ" and len(set(FONT.values())) == 26
    assert {len(rows) for rows in FONT.values()} == {5} and {len(row) for rows in FONT.values() for row in rows} == {5}
    assert drawn("Ti").split("\n") == ["#####  #####", "  #      #", "  #      #", "  #      #", "  #    #####"]


def test_the_key_word_is_drawn_and_nowhere_written():
    text = written("ascii_art", "How do I bake good breads? Breads!")
    assert drawn("BREADS") in text and "breads" not in text and "How do I bake good [WORD]? [WORD]!" in text
