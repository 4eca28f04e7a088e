"""What is held out for a candidate."""

from __future__ import annotations

from online.gate.held_out import HeldOut, draw_held_out
from tests.online.gate.labelled import suite


def test_prompts_are_capped_by_class() -> None:
    kept = draw_held_out(suite(9), 4)
    assert kept == [p for p in suite(9) if int(p.id.rsplit("-", 1)[1]) < (8 if p.kind == "task" else 4)]


def test_every_candidate_is_asked_prompts_of_its_own_draw() -> None:
    draws = [{p.id for p in draw_held_out(suite(60), 30, luck)} for luck in ("one", "two", "one")]
    assert draws[0] == draws[2] and len(draws[0]) == len(draws[1]) == 4 * 30 + 60
    drawn = [{name for name in draw if not name.startswith("task")} for draw in draws]
    assert 0.3 < len(drawn[0] & drawn[1]) / 120 < 0.7, "half of the prompts of a class are drawn"


def test_some_rows_keep_every_part_apart() -> None:
    whole = HeldOut(suite(2), {"theirs": suite(1)}, {"veto": suite(1)}, [(1,), (2,), (3,)])
    rows = whole.rows
    kept = whole.some(type(rows)(rows.asked[[0, 3, len(suite(2)), -1]], rows.traffic[1:]))
    assert [p.id for p in kept.prompts] == [suite(2)[at].id for at in (0, 3)] and kept.traffic == [(2,), (3,)]
    assert [p.id for p in kept.suites["theirs"]] == [suite(1)[0].id]
    assert [p.id for p in kept.vetoes["veto"]] == [suite(1)[-1].id]
