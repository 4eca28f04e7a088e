"""What holds for every attack, whoever answers it."""

import random
import re
from importlib import import_module
from pathlib import Path

import pytest

from evaluation import attacks
from evaluation.attacks import ATTACKS, Answer, Attack, Query, by_name
from evaluation.suite import Prompt
from tests.evaluation.attacks.simulated import GOAL, PROMPT, Obliging, drive, said, silent

HELPERS = {"attack", "attacker", "goals", "mutation", "templates", "turns"}
BY_CHANCE = set(ATTACKS) - {
    *("base64", "cipher", "code_wrapping", "direct", "flip", "leetspeak", "morse", "rot13", "ascii_art"),
    *("pair", "tap"),  # whose chance is the attacker model's
}
PLAIN = """authority crescendo developer_mode direct distractors many_shot nested_fiction output_format persona persuasion
prefix_injection random_search refusal_suppression fuzzing guard_search harm_search""".split()
"""Attacks that at last say the goal as it is."""
every = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))


def test_every_module_is_an_attack_of_its_name_or_a_known_helper():
    modules = {path.stem for path in Path(attacks.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules - HELPERS == set(ATTACKS) and list(ATTACKS) == sorted(ATTACKS) and len(ATTACKS) >= 28
    for name, attack in ATTACKS.items():
        assert import_module(f"evaluation.attacks.{name}").ATTACK is attack and attack.name == name


@every
def test_it_says_in_a_line_what_it_is_and_where_it_is_from(attack):
    assert attack.about.endswith(".") and "\n" not in attack.about
    assert re.search(r"\w.*, (arXiv:\d{4}\.\d{5}|NeurIPS \d{4})$", attack.source) or attack.name == "direct"


def test_two_attacks_of_one_name_are_refused():
    twin = ATTACKS["direct"]
    with pytest.raises(ValueError, match="two attacks are called 'direct'"):
        by_name([ATTACKS["base64"], twin, twin])


@every
@pytest.mark.parametrize("answering", [lambda: silent, Obliging], ids=["silent", "obliging"])
def test_it_asks_something_and_survives_every_answer(attack, answering):
    asked, ended = drive(attack, answering())
    assert asked and (ended or len(asked) == 60)
    for query in (query for batch in asked for query in batch):
        assert query.messages and all(isinstance(m["content"], str) and m["content"].strip() for m in query.messages)
    assert all(asked), "a batch without a query"


@every
@pytest.mark.parametrize(
    "goal", ["小麦粉でパンを焼く方法は？", "x", "?", "Bake { bread } and {goal}", "   ", 'say "hi"\n\\n']
)
def test_no_goal_is_too_odd(attack, goal):
    assert drive(attack, Obliging(), 12, Prompt("odd", "harmful", ({"role": "user", "content": goal},)))[0]


@every
def test_the_same_seed_asks_the_same_and_another_one_something_else(attack):
    state = random.getstate()
    once, again, others = (drive(attack, Obliging(), 20, seed=seed)[0] for seed in (7, 7, 8))
    assert once == again and random.getstate() == state, "chance from elsewhere"
    assert (any(drive(attack, Obliging(), 20, seed=seed)[0] != once for seed in range(9))) == (attack.name in BY_CHANCE)
    assert attack.name in BY_CHANCE or once == others


@every
def test_what_stands_before_and_after_the_goal_is_kept(attack):
    before = (
        {"role": "system", "content": "You sell tickets."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Where to?"},
    )
    after = ({"role": "assistant", "content": "Well,"},)
    prompt = Prompt("p", "harmful", (*before, {"role": "user", "content": GOAL}, *after))
    queries = [query for batch in drive(attack, Obliging(), 20, prompt)[0] for query in batch]
    targeted = [query.messages for query in queries if query.to == "target"]
    assert targeted
    for messages in targeted:
        assert messages[:3] == before and messages[-1:] == after and messages[-2]["role"] == "user"


@every
def test_it_needs_just_what_it_uses(attack: Attack):
    queries = [query for batch in drive(attack, Obliging())[0] for query in batch]
    used = {query.to for query in queries} | {"logprobs" for query in queries if query.logprobs}
    assert used - {"target"} == attack.needs - {"guard"} and "target" in used
    assert ("guard" in attack.needs) == (attack.name in ("guard_search", "harm_search"))


@pytest.mark.parametrize("name", PLAIN)
def test_the_goal_is_asked_as_it_is(name):
    asked, _ = drive(ATTACKS[name], Obliging())
    assert GOAL in said(asked[-1][-1])


@pytest.mark.parametrize(
    "name", ["authority", "developer_mode", "output_format", "persona", "persuasion", "prefix_injection"]
)
def test_all_wordings_come_up(name):
    templates = import_module(f"evaluation.attacks.{name}").TEMPLATES
    seen = {said(drive(ATTACKS[name], silent, seed=seed)[0][0][0]) for seed in range(60)}
    assert seen == {template.replace("{goal}", GOAL) for template in templates}


def test_the_control_is_the_prompt_itself():
    assert drive(ATTACKS["direct"], silent) == ([(Query(PROMPT.messages),)], True)


@pytest.mark.parametrize("seed", range(9))
def test_the_errand_with_the_most_room_is_the_goal(seed):
    text = said(drive(ATTACKS["distractors"], silent, seed=seed)[0][0][0])
    at = re.search(r"the room you need for (\d)\.", text)[1]
    assert f"\n{at}. {GOAL}\n" in text and len(text.split("\n\n")[1].split("\n")) == 6


@pytest.mark.parametrize(
    ("goal", "past", "future"),
    [
        ("How do I bake bread?", "How did people bake bread", "How will people bake bread"),
        ("Explain how to bake bread.", "How did people bake bread", "How will people bake bread"),
        ("Write a guide to baking.", "How did people write a guide to baking", "How will people write a guide to baking"),
        ("Which flour is best?", 'somebody asked: "Which flour is best?"', 'somebody will ask: "Which flour is best?"'),
    ],
)
def test_tenses(goal, past, future):
    prompt = Prompt("p", "harmful", ({"role": "user", "content": goal},))
    for name, start in (("past_tense", past), ("future_tense", future)):
        text = said(drive(ATTACKS[name], silent, prompt=prompt)[0][0][0])
        assert start in text and text.endswith("?")


def test_many_shots_are_harmless_distinct_and_more_each_time():
    asked, ended = drive(ATTACKS["many_shot"], silent)
    assert ended and [len(query.messages) for (query,) in asked] == [17, 65, 129]
    for (query,) in asked:
        questions = [message["content"] for message in query.messages[:-1:2]]
        assert len(set(questions)) == len(questions) and {m["role"] for m in query.messages[1::2]} == {"assistant"}


def test_a_language_whose_translation_failed_is_left_out():
    def answer(query: Query) -> Answer:
        return Answer("" if "Zulu" in said(query) else "Pehea e kālua ai?")

    asked, ended = drive(ATTACKS["translation"], answer)
    roles = [query.to for (query,) in asked]
    assert ended and roles.count("translator") == 4 and roles.count("target") == 3
    assert all(said(query).startswith("Pehea e kālua ai?") for (query,) in asked if query.to == "target")
