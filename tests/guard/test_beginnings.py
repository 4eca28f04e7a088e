"""Where answers begin and begin anew: what leads up to one, what moves it away, and what is weighed behind it."""

from __future__ import annotations

import pytest

from guard.beginnings import WINDOW, Beginnings, Weighing, places_left
from guard.openings import LEFT, MATCHED, Openings

# 1: a turn's mark, 2: its end, 5: role, 10: a line's end, 11: a colon, 12: a full stop, 20: "I", 21: " I", 22: "can't"
TREE = Openings(((20, 22), (30,)), spellings={20: (21,)})
KNOWN = Beginnings(
    header=(1, 5, 10),
    marks=frozenset({1, 2}),
    blank=frozenset({10}),
    breaks=frozenset({1, 2, 10, 11, 12}),
    ends=frozenset({1, 2, 10, 12}),
)
WORD, COLON, STOP, LINE = 40, 11, 12, 10


@pytest.mark.parametrize(
    ("prompt", "chat", "moved"),
    [
        ((1, 6, 10, 40, 2, 10, 1, 5, 10), True, False),
        ((1, 6, 10, 40, 2, 10, 1, 5, 10), False, False),
        ((1, 6, 10, 40, 2, 10, 1, 5), False, False),  # the model writes the line's end itself, which is skipped
        ((1, 6, 10, 40, 2, 10, 1, 5, 10, 10, 10), True, False),
        ((1, 6, 10, 40, 2, 10), True, True),  # no generation prompt
        ((1, 6, 10, 40), True, True),
        ((1, 6, 10, 40, 2, 10, 1, 5, 10, 40), True, True),  # begun by the client
        ((1, 6, 10, 40, 2, 10, 1, 5, 10, 40), False, True),
        ((1, 6, 10, 40, 2, 10, 1, 6, 10), True, True),  # another's turn
        ((40, 41), False, False),  # plain text is no chat
        ((40, 41), True, True),
        ((), True, True),
    ],
)
def test_a_prompt_moves_the_answer_unless_it_ends_where_the_turn_begins(prompt, chat, moved):
    assert KNOWN.moved(prompt, chat=chat) is moved


def test_templates_that_add_nothing_end_the_turn_before_with_a_mark():
    known = Beginnings(marks=frozenset({1, 2}), blank=frozenset({10}))
    assert not known.moved((1, 40, 2, 10), chat=True) and known.moved((1, 40, 2, 41), chat=True)


def test_where_nothing_is_known_of_a_template_nothing_is_moved():
    assert not Beginnings().moved((40, 41), chat=True)


def test_an_opening_behind_other_words_may_be_spelled_otherwise():
    assert TREE.anew(21) == TREE.anew(20) >= 0 and TREE.anew(30) == MATCHED and TREE.anew(22) == LEFT
    assert TREE.step(0, 21) == LEFT, "where an answer begins it is spelled in one way"
    assert dict(TREE.anew_children()) == {20: 1.0, 21: 1.0, 30: 1.0}


def test_spellings_go_through_json_and_are_none_in_a_file_without_them():
    assert Openings.from_json(TREE.to_json()) == TREE
    old = {key: value for key, value in TREE.to_json().items() if key != "spellings"}
    assert Openings.from_json(old).spellings == {}


def weighed(
    tokens: list[int], *, masses: dict[int, float] | None = None, **kwargs
) -> tuple[list[tuple[int, float]], Weighing]:
    """(index, mass) of each place that was left without refusing; the mass is a tenth of its index unless given."""
    weighing, found = Weighing(TREE, KNOWN, **kwargs), []
    for at in range(1, len(tokens)):
        if weighing.step(tokens, at, (masses or {}).get(at, at / 10)):
            found.append((at, weighing.mass))
    return found, weighing


def test_refusing_is_weighed_again_behind_a_break_and_not_within_a_phrase():
    assert weighed([WORD, WORD, WORD])[0] == []
    assert weighed([WORD, COLON, WORD, WORD])[0] == [(2, 0.2)]
    assert weighed([WORD, COLON, LINE, LINE, WORD])[0] == [(4, 0.4)], "blank lines are no answer"


def test_a_place_is_left_where_its_opening_breaks_off_with_the_mass_it_began_with():
    found, weighing = weighed([WORD, COLON, 21, WORD])
    assert found == [(3, 0.2)] and not weighing.refuses
    found, weighing = weighed([WORD, COLON, 21, 22, WORD])
    assert found == [] and weighing.refuses
    assert weighed([WORD, COLON, 21])[1].weighing


def test_the_window_ends_and_another_turn_opens_it_again():
    late = [WORD] * WINDOW
    assert weighed([*late, COLON, WORD])[0] == []
    found, _ = weighed([*late, 2, LINE, 1, 5, LINE, WORD, COLON, WORD], masses={})
    assert [at for at, _ in found] == [WINDOW + 3, WINDOW + 5, WINDOW + 7]


def test_a_refusal_may_turn_at_the_end_of_any_sentence():
    late = [WORD] * WINDOW
    assert weighed([*late, STOP, WORD], refuses=True)[0] == [(WINDOW + 1, (WINDOW + 1) / 10)]
    assert weighed([WORD, COLON, WORD], refuses=True)[0] == [], "a colon ends no sentence"
    assert weighed([*late, STOP, 21, 22, STOP, 30], refuses=True)[0] == [], "it goes on refusing"


def test_every_token_of_a_steered_answer_is_a_place_and_no_opening_of_it_a_refusal():
    found, weighing = weighed([WORD, WORD, 20, 22, WORD], steered=True)
    assert found == [(1, 0.1), (4, 0.4)] and not weighing.refuses
    late = [WORD] * WINDOW
    assert [at for at, _ in weighed([*late, WORD, STOP, WORD], steered=True)[0]] == [*range(1, WINDOW), WINDOW + 2]


def test_the_places_that_were_left_are_what_calibrates():
    tokens = [WORD, COLON, WORD, COLON, WORD, COLON, 30]
    assert places_left(Weighing(TREE, KNOWN), tokens, 1) == [2, 4]
    assert places_left(Weighing(TREE, KNOWN), [WORD, COLON, 20, WORD, COLON, 20, 22], 1) == [2], "where it began, not ended"
    assert places_left(Weighing(TREE, KNOWN), [WORD, WORD], 1) == []
