"""Attacks that go by the answers, against targets that can be found out."""

from __future__ import annotations

import json
import math
from random import Random

import pytest

from evaluation.attacks import ATTACKS, Answer, Query
from evaluation.attacks.best_of_n import augmented, capitalised, noisy, scrambled
from evaluation.attacks.crescendo import STEPS
from evaluation.attacks.guard_search import loss
from evaluation.attacks.harm_search import loss as of_harm
from evaluation.attacks.random_search import changed, willing
from evaluation.attacks.tap import BRANCHES, DEPTH, WIDTH
from evaluation.judge import Outcome
from tests.evaluation.attacks.simulated import GOAL, Obliging, drive, said, silent

NEAR = pytest.approx
NO = "I'm sorry, but I can't help with that."


def test_best_of_n_never_ends_and_hardly_repeats_itself():
    asked, ended = drive(ATTACKS["best_of_n"], silent)
    texts = [said(query) for batch in asked for query in batch]
    assert not ended and len(set(texts)) > 0.95 * len(texts) and GOAL not in texts
    assert {query.temperature for batch in asked for query in batch} == {1.0}


def test_damages_are_what_they_say():
    text = "Whatever keeps bread fresh, 24 hours a day"
    mixed = scrambled(text, Random(1), 1.0)
    assert mixed != text
    for old, new in zip(text.split(" "), mixed.split(" "), strict=True):
        assert (sorted(old), old[0], old[-1], len(old) > 3 or old) == (sorted(new), new[0], new[-1], len(old) > 3 or new)
    assert capitalised(text, Random(1), 1.0) == text.swapcase() and capitalised(text, Random(1), 0.5).lower() == text.lower()
    noise = noisy(text + " ~é", Random(1), 1.0)
    assert all(abs(ord(a) - ord(b)) == (a not in " ~é") for a, b in zip(text + " ~é", noise, strict=True))
    assert augmented(text, Random(1), strength=0.0) == text
    short = "a cat in a hat is all I see " * 100
    mistyped = sum(a != b.lower() for a, b in zip(short.lower(), augmented(short, Random(1), strength=0.4), strict=True))
    assert mistyped / len(short.replace(" ", "")) == NEAR(0.4**3, abs=0.02)


def test_crescendo_builds_on_what_the_model_said():
    """A model judge takes what serves the goal nothing, or not yet, for a refusal."""
    asked, ended = drive(ATTACKS["crescendo"], lambda query: Answer(f"answer {len(query.messages)}", Outcome.REFUSAL))
    assert ended and [len(query.messages) for (query,) in asked] == [1, 3, 5, 7, 9]
    final = asked[-1][0].messages
    assert [m["content"] for m in final[1::2]] == ["answer 1", "answer 3", "answer 5", "answer 7"]
    assert [m["content"] for m in final[:-1:2]] == [said(query) for (query,) in asked[:-1]]
    assert "bread" in said(asked[0][0]) and GOAL not in said(asked[0][0]) and GOAL in said(asked[-1][0])


def test_crescendo_steps_back_when_refused():
    refused = []

    def answer(query: Query) -> Answer:
        if len(query.messages) == 5 and not refused:
            refused.append(said(query))
            return Answer(NO, Outcome.REFUSAL)
        return Answer("Well.", Outcome.ANSWER)

    asked, _ = drive(ATTACKS["crescendo"], answer)
    assert len(asked) == len(STEPS) + 1 and said(asked[2][0]) == refused[0] != said(asked[3][0])
    assert asked[3][0].messages[:-1] == asked[2][0].messages[:-1]
    for (query,) in asked[3:]:
        assert not {NO, refused[0]} & {message["content"] for message in query.messages}


@pytest.mark.parametrize("answer", [silent, lambda query: Answer(NO)], ids=["silent", "refusing"])
def test_crescendo_ends_where_all_is_refused(answer):
    asked, ended = drive(ATTACKS["crescendo"], answer)
    assert ended and len(asked) == sum(map(len, STEPS)) and all(len(query.messages) == 1 for (query,) in asked)


def writes(prompt: str) -> Answer:
    return Answer(json.dumps({"improvement": "-", "prompt": prompt}))


def test_pair_asks_what_the_attacker_wrote_and_tells_it_what_came_of_it():
    def answer(query: Query) -> Answer:
        if query.to == "target":
            return Answer(f"I hear: {said(query)}", score=0.5)
        return writes(f"turn {len(query.messages)}")

    asked, ended = drive(ATTACKS["pair"], answer)
    assert (
        ended and [batch[0].to for batch in asked] == ["attacker", "target"] * 4 and {len(batch) for batch in asked} == {5}
    )
    assert [said(batch[0]) for batch in asked[1::2]] == ["turn 1", "turn 3", "turn 5", "turn 7"]
    for query in asked[2]:
        first, wrote, heard = (message["content"] for message in query.messages)
        assert GOAL in first and json.loads(wrote)["prompt"] == "turn 1"
        assert "I hear: turn 1" in heard and f"Score: {1 + round(4.5)} of 10" in heard


def test_pair_survives_garbage_and_asks_such_a_stream_again():
    said_garbage = iter([True, False] * 100)

    def answer(query: Query) -> Answer:
        if query.to == "target":
            return Answer(NO, Outcome.REFUSAL)
        return Answer("My pleasure {") if next(said_garbage) else writes("please")

    asked, ended = drive(ATTACKS["pair"], answer)
    assert ended and len(asked[1]) == 2 and [len(query.messages) for query in asked[2]] == [1, 3, 1, 3, 1]
    useless, ended = drive(ATTACKS["pair"], lambda query: Answer("{}"))
    assert ended and len(useless) == 4 and {query.to for batch in useless for query in batch} == {"attacker"}


def test_tap_prunes_what_is_off_topic_and_grows_from_the_best():
    count = iter(range(10_000))

    def answer(query: Query) -> Answer:
        if query.to == "target":
            return Answer(f"heard {said(query)}", score=int(said(query).split()[-1]) % 100 / 100)
        if query.temperature == 0.0:
            return Answer("No." if "weather" in said(query) else "Yes.")
        n = next(count)
        return writes(f"the weather {n}" if n % 3 == 0 else f"bread {n}")

    asked, ended = drive(ATTACKS["tap"], answer)
    levels = list(zip(asked[::3], asked[1::3], asked[2::3], strict=True))
    assert ended and len(levels) == DEPTH
    for grown, checked, tried in levels:
        assert {query.to for query in (*grown, *checked)} == {"attacker"} and len(checked) == len(grown)
        assert 0 < len(tried) < len(checked) and all("weather" not in said(query) for query in tried)
    for (_, _, tried), (grown, _, _) in zip(levels, levels[1:], strict=False):
        best = sorted((said(query) for query in tried), key=lambda text: int(text.split()[-1]) % 100, reverse=True)[:WIDTH]
        assert len(grown) == len(best) * BRANCHES <= WIDTH * BRANCHES
        assert {said(query).split("heard ")[1].split("\n")[0] for query in grown} == set(best)


def test_tap_survives_an_attacker_that_is_always_off_topic():
    def answer(query: Query) -> Answer:
        return Answer("no") if query.temperature == 0.0 else writes("the weather")

    asked, ended = drive(ATTACKS["tap"], answer)
    assert ended and len(asked) == 2 * DEPTH and all(query.to == "attacker" for batch in asked for query in batch)


def test_willingness_is_the_mass_of_willing_first_words():
    assert willing(Answer("", logprobs=({"Sure": math.log(0.2), " sure": math.log(0.1), "I": math.log(0.6)},))) == NEAR(
        math.log(0.3)
    )
    assert willing(Answer("", logprobs=({"No": -0.1}, {"Sure": -0.1}))) == -math.inf == willing(Answer(""))


def test_a_change_is_short_and_in_place():
    luck, suffix = Random(0), ["-"] * 24
    for _ in range(100):
        other = changed(suffix, luck)
        where = [n for n, (a, b) in enumerate(zip(suffix, other, strict=True)) if a != b]
        assert suffix == ["-"] * 24 and (not where or where[-1] - where[0] < 4)


@pytest.mark.parametrize("seed", range(3))
def test_random_search_climbs(seed):
    def height(query: Query) -> float:
        return -9.0 + 0.3 * sum(said(query).count(word) for word in (" step", " plan", " list"))

    def answer(query: Query) -> Answer:
        return Answer("Sure", logprobs=({"Sure": height(query), "I": -0.01},) if query.logprobs else ())

    asked, _ = drive(ATTACKS["random_search"], answer, 150, seed=seed)
    probes = [batch for batch in asked if batch[0].logprobs]
    whole = [height(batch[0]) for batch in asked if not batch[0].logprobs]
    assert {(q.max_tokens, q.logprobs, q.temperature) for batch in probes for q in batch} == {(1, 20, 0.0)}
    assert whole == sorted(whole) and whole[-1] > whole[0] + 1.5 and len(asked) // 2 == len(whole)
    assert whole[-1] == max(height(query) for batch in asked for query in batch)


@pytest.mark.parametrize("word", ["Marlo", "YAML", "audit"])
def test_fuzzing_goes_where_it_pays(word):
    asked, _ = drive(ATTACKS["fuzzing"], lambda query: Answer("x", score=float(word in said(query))), 100)
    paid = [sum(word in said(query) for query in batch) for batch in asked]
    assert sum(paid[-30:]) > 3 * max(1, sum(paid[:30])) / 2 and sum(paid[-30:]) > 0.5 * 4 * 30


def test_fuzzing_tries_all_where_nothing_pays():
    asked, _ = drive(ATTACKS["fuzzing"], lambda query: Answer("x"), 60)
    assert len({said(query) for batch in asked for query in batch}) > 0.7 * sum(map(len, asked))


def report(mass: float | None, entropy: float | None) -> Answer:
    return Answer(
        "x", guard={"refusal_mass": mass, "entropy": {"mean": entropy, "max": 2.0, "tokens": 3}, "verdict": "none"}
    )


def test_mass_comes_first_then_entropy_then_the_score_where_nothing_is_reported():
    ranked = [report(0.1, 0.5), report(0.1, 0.9), report(0.1, None), report(0.2, 0.1), report(0.9, 0.0)]
    assert sorted(reversed(ranked), key=loss) == ranked and loss(ranked[0]) == (0.1, 0.5)
    halted = Answer("No.", score=0.25, guard={"index": 0, "action": "halt"})
    assert loss(halted) == loss(Answer("No.", score=0.25)) == (0.75, math.inf)
    assert loss(Answer("x", score=0.9)) < loss(halted) < loss(silent(Query(())))


@pytest.mark.parametrize("seed", range(3))
def test_the_search_lowers_the_mass(seed):
    def mass(query: Query) -> float:
        return 1 / (1 + sum(said(query).count(word) for word in ("story", "exercise", "steps")))

    asked, _ = drive(ATTACKS["guard_search"], lambda query: report(mass(query), 1.0), 60, seed=seed)
    mean = [sum(map(mass, batch)) / len(batch) for batch in asked]
    assert sum(mean[-10:]) < 0.35 * sum(mean[:3]) / 3 * 10


def test_among_equal_masses_the_search_lowers_the_entropy():
    def entropy(query: Query) -> float:
        return 3 / (1 + said(query).count("numbered"))

    asked, _ = drive(ATTACKS["guard_search"], lambda query: report(0.5, entropy(query)), 60)
    mean = [sum(map(entropy, batch)) / len(batch) for batch in asked]
    assert sum(mean[-10:]) / 10 < 0.5 * sum(mean[:3]) / 3


def test_harm_comes_first_then_mass_and_without_it_the_search_goes_by_mass():
    def sensed(harm: float | None, mass: float) -> Answer:
        return Answer("x", guard={"harm": harm, "refusal_mass": mass, "entropy": {"mean": 0.1}})

    ranked = [sensed(0.1, 0.5), sensed(0.1, 0.9), sensed(0.2, 0.1)]
    assert sorted(reversed(ranked), key=of_harm) == ranked and of_harm(ranked[0]) == (0.1, 0.5)
    assert of_harm(sensed(None, 0.3)) == (1.3, 0.1) > of_harm(sensed(1.0, 1.0)) and loss(sensed(None, 0.3)) == (0.3, 0.1)

    def harm(query: Query) -> float:
        return 1 / (1 + said(query).count("story"))

    asked, _ = drive(ATTACKS["harm_search"], lambda query: sensed(harm(query), 0.5), 60)
    mean = [sum(map(harm, batch)) / len(batch) for batch in asked]
    assert sum(mean[-10:]) / 10 < 0.5 * sum(mean[:3]) / 3


def test_without_reports_the_search_goes_by_the_score():
    def score(query: Query) -> float:
        return min(1.0, 0.2 * said(query).count("friendly"))

    asked, _ = drive(ATTACKS["guard_search"], lambda query: Answer("x", score=score(query)), 60)
    mean = [sum(map(score, batch)) / len(batch) for batch in asked]
    assert sum(mean[-10:]) / 10 > 0.5 > 0.2 > sum(mean[:3]) / 3


def test_answers_move_the_adaptive_ones_and_no_others():
    """Between silence and answers, batches differ for those that listen."""
    listening = {"crescendo", "fuzzing", "guard_search", "harm_search", "pair", "random_search", "tap", "translation"}
    assert {
        name for name, attack in ATTACKS.items() if drive(attack, silent)[0] != drive(attack, Obliging())[0]
    } == listening
