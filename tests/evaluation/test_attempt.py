"""Which prompts meet which attacks, and what is on record of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from evaluation.attempt import DIRECT, cases, drawn, read
from tests.evaluation.endless import ENDLESS, prompt


def test_bare_goals_meet_every_attack_and_all_else_is_asked_as_it_is() -> None:
    prompts = [prompt(0), prompt(1, family="few_shot"), prompt(2, "benign"), prompt(3, "task", answer="4")]
    found = Counter((case.prompt.id, case.attack.name) for case in cases(prompts, [DIRECT, ENDLESS], (0, 1)))
    assert found == {
        ("harmful-0", "direct"): 2, ("harmful-0", "endless"): 2, ("harmful-1", "direct"): 2, ("benign-2", "direct"): 2,
        ("task-3", "direct"): 2,
    }  # fmt: skip
    assert cases(prompts, [ENDLESS], [0]) == cases(prompts, [ENDLESS], [0])


def test_a_limit_is_one_of_each_class_and_drawn_by_lot() -> None:
    prompts = [prompt(n, kind, family="f" if n % 2 else None, answer="4") for kind in ("harmful", "benign", "borderline")
               for n in range(40)]  # fmt: skip
    kept = drawn(prompts, 5)
    groups = Counter(p.over_refusal_class or p.kind + (" wrapped" if p.family else "") for p in kept)
    assert groups == {"harmful": 5, "harmful wrapped": 5, "plain": 5, "wrapped": 5, "borderline": 5}
    assert drawn(prompts, 5) == kept != drawn(prompts, 5, seed=1)


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == {}
