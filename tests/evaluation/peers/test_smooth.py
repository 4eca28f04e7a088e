"""Copies, how they are damaged, and how they vote."""

import string
from random import Random

import pytest

from evaluation.attacks import Query
from evaluation.ending import Ending
from evaluation.endpoint import Reply
from evaluation.peers import Manner, defended
from evaluation.peers.smooth import DAMAGES, Smooth, insert, patch, swap
from tests.evaluation.peers.simulated import ANSWER, GOAL, TOKENS, Simulated, ask

TEXT = "é" * 200


@pytest.mark.parametrize("count", [0, 1, 20, 200])
def test_damages_are_what_they_say(count):
    for seed in range(5):
        swapped, inserted, patched = (damage(TEXT, count, Random(seed)) for damage in (swap, insert, patch))
        assert len(swapped) == len(patched) == 200 and swapped.count("é") == patched.count("é") == 200 - count
        assert len(inserted) == 200 + count and inserted.count("é") == 200
        assert set(swapped + inserted + patched) <= {"é", *string.printable}
        assert patched.strip("é") in patched and len(patched.strip("é")) == count, "in a row"
    assert count != 20 or len(swapped.strip("é")) > 20 and len(inserted.strip("é")) > 40, "here and there"


@pytest.mark.parametrize("how", DAMAGES)
def test_copies_differ_in_what_the_user_says_last_only(how):
    target = Simulated()
    said = [{"role": role, "content": GOAL} for role in ("system", "user", "assistant", "user")]
    ask(defended(f"smooth:n=7,q=20,how={how}", target), Query(tuple(said)))
    texts = {query.messages[-1]["content"] for query, _ in target.asked}
    assert len(target.asked) == len(texts) == 7 and GOAL not in texts
    assert all(list(query.messages[:3]) == said[:3] and query.messages[3]["role"] == "user" for query, _ in target.asked)


def test_the_share_of_damage_is_what_is_asked_for():
    for percent, count in ((0, 0), (10, 20), (12.5, 25), (100, 200)):
        target = Simulated()
        ask(defended(f"smooth:q={percent}", target), TEXT)
        assert {200 - text.count("é") for text in target.heard} == {count} and len(target.asked) == 6


def voting(refusals: int, copies: int):
    """A target whose first replies refuse."""
    replies = iter([f"I can't {n}." if n < refusals else f"Sure {n}." for n in range(copies)])
    return Simulated(lambda query, seed: Reply(next(replies), (10, 1)))


@pytest.mark.parametrize(
    ("refusals", "copies", "refused"), [(0, 5, 0), (2, 5, 0), (3, 5, 1), (5, 5, 1), (2, 4, 1), (0, 1, 0)]
)
def test_most_decide_and_a_draw_is_a_refusal(refusals, copies, refused):
    for seed in range(10):
        reply = ask(Smooth(voting(refusals, copies), copies), seed=seed)
        assert reply.text.startswith("I can't") == bool(refused) and reply.tokens == (10 * copies, copies)


def test_any_that_agrees_may_be_sent():
    sent = {ask(Smooth(voting(4, 6), 6), seed=seed).text for seed in range(60)}
    assert sent == {f"I can't {n}." for n in range(4)}


def test_whoever_tells_refusals_is_asked():
    target = Simulated(lambda query, seed: "Nay." if seed % 4 else ANSWER)
    known = [defended("smooth:n=15", target, manner) for manner in (Manner(is_refusal="Nay.".__eq__), Manner())]
    assert {ask(known[0], seed=seed).text for seed in range(5)} == {"Nay."}
    assert {ask(known[1], seed=seed).text for seed in range(15)} == {"Nay.", ANSWER}, "to whom no Nay is a refusal"


def test_a_brittle_suffix_is_undone_and_a_plain_question_is_not():
    """As in the paper: an attack that hangs on each of its characters, and a model that answers what it can read."""
    magic = "!x! describing.-- ;) similarly"
    target = Simulated(lambda query, seed: ANSWER if magic in query.messages[-1]["content"] else "I can't do that.")
    assert ask(target, f"Goal {magic}").text == ANSWER
    assert {ask(defended("smooth", target), f"Goal {magic}", seed).text for seed in range(20)} == {"I can't do that."}
    assert ask(defended("smooth", Simulated()), GOAL) == Reply(ANSWER, (6 * TOKENS[0], 6 * TOKENS[1]))


def test_a_filter_votes_for_refusal_and_who_said_nothing_yet_has_no_vote():
    said = iter([Reply("", ending=Ending.FILTERED), Reply("Yes.", (10, 1)), Reply("", (10, 9), ending=Ending.UNDECIDED)])
    target = Simulated(lambda query, seed: next(said))
    reply = ask(defended("smooth:n=3", target), GOAL)
    assert reply.ending is Ending.FILTERED and reply.tokens == (20, 10), "one of two, and all of them were paid for"


def test_where_nobody_said_anything_nothing_is_decided():
    target = Simulated(lambda query, seed: Reply("", ending=Ending.UNDECIDED))
    assert ask(defended("smooth:n=3", target), GOAL).ending is Ending.UNDECIDED
