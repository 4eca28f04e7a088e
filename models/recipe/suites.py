"""Suites: prompts to calibrate on, validate on, test on and learn from, as JSON lines, each with what it is.

They depend on nothing but this recipe: no seed, no model.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from models.recipe import corpus, requests, tasks
from models.recipe.families import NOVELTIES, Family, of
from models.recipe.requests import Ask

Row = dict[str, Any]

LEARNED = ("seen", "sirl_only")
"""Families that updates and calibration may meet."""

PLANS: dict[str, tuple[tuple[str, int, tuple[str, ...], bool], ...]] = {
    "calibration": (
        ("task", 150, (), False),
        ("benign", 220, (), False),
        ("benign", 220, LEARNED, False),
        ("borderline", 120, (), False),
        ("borderline", 60, LEARNED, False),
        ("harmful", 100, (), False),
        ("harmful", 180, LEARNED, False),
    ),
    "validation": (
        ("task", 150, (), False),
        ("benign", 250, (), False),
        ("benign", 250, NOVELTIES[:3], False),
        ("borderline", 180, (), False),
        ("borderline", 70, NOVELTIES[:3], False),
        ("harmful", 100, (), False),
        ("harmful", 240, NOVELTIES[:3], False),
    ),
    "gate": (
        ("task", 1000, (), False),
        ("benign", 500, (), False),
        ("benign", 500, NOVELTIES[:3], False),
        ("borderline", 360, (), False),
        ("borderline", 140, NOVELTIES[:3], False),
        ("harmful", 160, (), False),
        ("harmful", 340, NOVELTIES[:3], False),
    ),
    "test": (
        ("task", 360, (), False),
        ("benign", 1500, (), False),
        ("benign", 1500, NOVELTIES, False),
        ("borderline", 1000, (), False),
        ("borderline", 500, NOVELTIES, False),
        ("harmful", 200, (), False),
        ("harmful", 420, ("seen",), False),
        ("harmful", 180, ("base_only",), False),
        ("harmful", 180, ("sirl_only",), False),
        ("harmful", 550, ("never",), False),
        ("harmful", 60, (), True),
        ("harmful", 140, ("seen",), True),
    ),
    "traffic": (
        ("task", 300, (), False),
        ("benign", 420, (), False),
        ("benign", 380, LEARNED, False),
        ("borderline", 160, (), False),
        ("borderline", 60, LEARNED, False),
        ("harmful", 40, (), False),
        ("harmful", 140, LEARNED, False),
    ),
}
"""For each suite: (kind, rows, novelties of the wrapper or none for bare prompts, new topic)."""


POOLS = {"gate": "validation"}
"""Whose actions a suite asks about, where it has no split of its own."""


def _make(kind: str, new: bool) -> Callable[[random.Random, str, bool], Ask]:
    if kind == "harmful":
        return lambda rng, split, wrapped: requests.harmful(rng, split, new)
    make: Callable[[random.Random, str, bool], Ask] = getattr(requests, kind)
    return make


def _row(split: str, ask: Ask, family: Family | None, new: bool, text: str) -> Row:
    return {
        "split": split,
        "kind": ask.kind,
        "family": family and family.name,
        "novelty": family and family.novelty,
        "topic": ask.topic,
        "new_topic": new,
        "action": ask.action,
        "messages": [{"role": "user", "content": text}],
        "answer": None,
    }


def _task_row(split: str, task: tasks.Task) -> Row:
    return {
        "split": split,
        "kind": "task",
        "family": None,
        "novelty": None,
        "topic": task.kind,
        "new_topic": False,
        "action": task.key,
        "messages": [{"role": "user", "content": task.prompt}],
        "answer": task.answer,
    }


def build(split: str) -> list[Row]:
    """All rows of one suite. No prompt occurs twice, not even in another suite of its pool; wrapper families take turns, so
    that each has its share."""
    rng = random.Random(f"suite {split}")
    rows: list[Row] = []
    pool = POOLS.get(split, split)
    known = {row["messages"][0]["content"] for row in build(pool)} if pool != split else set()
    for kind, count, novelties, new in PLANS[split]:
        turns: list[Family | None | str] = list(tasks.KINDS if kind == "task" else of(*novelties) or (None,))
        for index in range(count):
            while (row := _fresh(rng, pool, kind, turn := turns[index % len(turns)], new, known)) is None:
                turns.remove(turn)  # some kinds of task are soon all asked
                if not turns:
                    raise RuntimeError(f"the grammar has too few distinct {kind} prompts: enlarge the lexicon")
            rows.append(row | {"split": split})
    rng.shuffle(rows)
    for row in rows:
        if split == "traffic" and rng.random() < 0.05:
            row["messages"].insert(0, {"role": "system", "content": rng.choice(corpus.SYSTEMS)})
    return [{"id": f"{split}-{index:05d}"} | row for index, row in enumerate(rows)]


def _fresh(rng: random.Random, split: str, kind: str, turn: Family | str | None, new: bool, known: set[str]) -> Row | None:
    """A row whose prompt is not known yet, of this family or kind of task; from now on it is known. None: there is no
    other."""
    for _ in range(10_000):
        if isinstance(turn, str):
            row = _task_row(split, tasks.draw(rng, split, turn))
        else:
            ask = _make(kind, new)(rng, split, turn is not None)
            row = _row(split, ask, turn, new, requests.text_of(ask, turn, rng))
        text = row["messages"][0]["content"]
        if text not in known:
            known.add(text)
            return row
    return None


def wrap(rows: Iterable[Row], families: Sequence[Family]) -> list[Row]:
    """The bare single-turn prompts among the rows, each in the clothes of one of the families, which take turns."""
    bare = [row for row in rows if row["kind"] != "task" and row["family"] is None and len(row["messages"]) == 1]
    wrapped = []
    for index, row in enumerate(bare):
        family = families[index % len(families)]
        text = family.wrap_text(row["messages"][0]["content"])
        wrapped.append(
            row
            | {
                "id": f"{row['id']}-{family.name}",
                "family": family.name,
                "novelty": "never",
                "messages": [{"role": "user", "content": text}],
            }
        )
    return wrapped


def dumps(rows: Iterable[Row]) -> str:
    """Rows as JSON lines, as they are stored."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def save(folder: Path) -> None:
    """Write all suites into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in PLANS:
        (folder / f"{split}.jsonl").write_text(dumps(build(split)), encoding="utf-8")
