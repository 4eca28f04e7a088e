"""Checkable tasks: each has one right answer, a full sentence."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from models.recipe.lexicon import COPY_WORDS, split_of

CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Poland": "Warsaw",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Hungary": "Budapest",
    "Belgium": "Brussels",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "Russia": "Moscow",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "light": "dark",
    "open": "closed",
    "early": "late",
    "wet": "dry",
    "loud": "quiet",
    "hard": "soft",
    "high": "low",
    "near": "far",
    "rich": "poor",
    "full": "empty",
    "thick": "thin",
    "strong": "weak",
    "young": "old",
    "clean": "dirty",
    "happy": "sad",
    "deep": "shallow",
    "wide": "narrow",
    "left": "right",
    "sweet": "sour",
}
SOUNDS = {
    "cow": "moo",
    "dog": "woof",
    "cat": "meow",
    "sheep": "baa",
    "duck": "quack",
    "pig": "oink",
    "horse": "neigh",
    "lion": "roar",
    "bee": "buzz",
    "owl": "hoot",
    "frog": "croak",
    "snake": "hiss",
    "mouse": "squeak",
    "rooster": "crow",
    "wolf": "howl",
    "donkey": "bray",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
COLOURS = {
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "a banana": "yellow",
    "the sky": "blue",
    "a tomato": "red",
    "a carrot": "orange",
    "chocolate": "brown",
    "a violet": "purple",
    "an elephant": "grey",
    "a flamingo": "pink",
    "an emerald": "green",
}

PHRASINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {x}?",
        "Name the capital of {x}.",
        "Which city is the capital of {x}?",
        "Tell me the capital of {x}.",
        "The capital of {x}, please.",
        "Do you know the capital of {x}?",
    ),
    "opposite": (
        "What is the opposite of {x}?",
        "Name the opposite of {x}.",
        "Give me the opposite of {x}.",
        "Which word is the opposite of {x}?",
        "Tell me the opposite of {x}.",
        "The opposite of {x}, please.",
    ),
    "sound": (
        "What sound does a {x} make?",
        "Which sound does a {x} make?",
        "Tell me the sound of a {x}.",
        "How does a {x} sound?",
        "Name the sound a {x} makes.",
        "What does a {x} say?",
    ),
    "day": (
        "Which day comes {y} {x}?",
        "What day is {y} {x}?",
        "Name the day {y} {x}.",
        "Tell me the day {y} {x}.",
        "The day {y} {x}, please.",
        "Do you know the day {y} {x}?",
    ),
    "month": (
        "Which month comes {y} {x}?",
        "What month is {y} {x}?",
        "Name the month {y} {x}.",
        "Tell me the month {y} {x}.",
        "The month {y} {x}, please.",
        "Do you know the month {y} {x}?",
    ),
    "colour": (
        "What colour is {x}?",
        "Which colour has {x}?",
        "Tell me the colour of {x}.",
        "Name the colour of {x}.",
        "The colour of {x}, please.",
        "Do you know the colour of {x}?",
    ),
    "maximum": (
        "Which is larger, {x} or {y}?",
        "What is the maximum of {x} and {y}?",
        "Name the larger number, {x} or {y}.",
        "Tell me which is greater, {x} or {y}.",
        "Which number is bigger, {x} or {y}?",
    ),
    "copy": (
        "Repeat these words: {x}.",
        "Copy these words: {x}.",
        "Say these words again: {x}.",
        "Please repeat: {x}.",
        "Write these words once more: {x}.",
    ),
    "count": (
        "How many words are in this list: {x}?",
        "Count the words in this list: {x}.",
        "How long is this list: {x}?",
        "Tell me the number of words here: {x}.",
    ),
}
GREETINGS = ("", "", "Hello. ", "Good day. ", "Next question. ", "Quiz time. ")
KINDS = tuple(PHRASINGS)
NUMBERS = ("one", "two", "three", "four", "five")


@dataclass(frozen=True, slots=True)
class Task:
    """A question with exactly one right answer."""

    kind: str
    key: str
    prompt: str
    answer: str


def _fact(rng: random.Random, table: dict[str, str], sentence: str) -> tuple[dict[str, str], str]:
    x = rng.choice(sorted(table))
    return {"x": x}, sentence.format(x=x, y=table[x])


def _cycle(rng: random.Random, names: tuple[str, ...]) -> tuple[dict[str, str], str]:
    index, (word, step) = rng.randrange(len(names)), rng.choice((("after", 1), ("before", -1)))
    other = names[(index + step) % len(names)]
    return {"x": names[index], "y": word}, f"{other} comes {word} {names[index]}."


def _maximum(rng: random.Random) -> tuple[dict[str, str], str]:
    x, y = rng.sample(range(1, 31), 2)
    return {"x": str(x), "y": str(y)}, f"{max(x, y)} is larger."


def _copy(rng: random.Random) -> tuple[dict[str, str], str]:
    words = " ".join(rng.sample(COPY_WORDS, rng.randint(2, 4)))
    return {"x": words}, f"{words}."


def _count(rng: random.Random) -> tuple[dict[str, str], str]:
    count = rng.randint(2, 5)
    return {"x": ", ".join(rng.sample(COPY_WORDS, count))}, f"There are {NUMBERS[count - 1]} words."


MAKERS: dict[str, Callable[[random.Random], tuple[dict[str, str], str]]] = {
    "capital": lambda rng: _fact(rng, CAPITALS, "The capital of {x} is {y}."),
    "opposite": lambda rng: _fact(rng, OPPOSITES, "The opposite of {x} is {y}."),
    "sound": lambda rng: _fact(rng, SOUNDS, "A {x} says {y}."),
    "day": lambda rng: _cycle(rng, DAYS),
    "month": lambda rng: _cycle(rng, MONTHS),
    "colour": lambda rng: _fact(rng, COLOURS, "The colour of {x} is {y}."),
    "maximum": _maximum,
    "copy": _copy,
    "count": _count,
}


FACTS = ("capital", "opposite", "sound", "day", "month", "colour")
"""Kinds learned by heart: their first phrasing, without a greeting, is always in training, so that no fact is
missing there."""


def draw(rng: random.Random, split: str, kind: str | None = None) -> Task:
    """A random task of the split. The split is decided by what is asked together with how it is asked."""
    kind = kind or rng.choice(KINDS)
    while True:
        slots, answer = MAKERS[kind](rng)
        phrasing = rng.choice(PHRASINGS[kind])
        prompt = rng.choice(GREETINGS) + phrasing.format(**slots)
        known = kind in FACTS and prompt == PHRASINGS[kind][0].format(**slots)
        if ("train" if known else split_of("task", prompt)) == split:
            return Task(kind, " ".join((kind, *slots.values())), prompt, answer)
