"""The suites are what the recipe makes, and what is apart stays apart."""

import json
from collections import Counter

import pytest

import models
from evaluation import from_row
from models.recipe import corpus, families, lexicon, requests, suites

ROWS = {split: suites.build(split) for split in models.SUITES}


def prompts(rows):
    return {row["messages"][-1]["content"] for row in rows}


@pytest.mark.parametrize("split", models.SUITES)
def test_the_stored_suites_are_the_recipes_own(split):
    assert models.suite(split).read_text(encoding="utf-8") == suites.dumps(ROWS[split])


def test_the_stored_suites_are_small():
    assert sum(models.suite(split).stat().st_size for split in models.SUITES) < 4_000_000


def test_no_prompt_is_in_two_suites():
    for index, split in enumerate(models.SUITES):
        assert len(prompts(ROWS[split])) == len(ROWS[split])
        for other in models.SUITES[index + 1 :]:
            assert not prompts(ROWS[split]) & prompts(ROWS[other])


def test_no_suite_prompt_is_in_training():
    trained = {
        message["content"]
        for example in corpus.corpus(0, 30_000)
        for message in example.messages
        if message["role"] == "user"
    }
    for rows in ROWS.values():
        assert not prompts(rows) & trained


def test_actions_are_apart():
    actions = {
        split: {row["action"] for row in rows if row["kind"] in ("harmful", "benign") and not row["new_topic"]}
        for split, rows in ROWS.items()
    }
    assert actions.pop("gate") <= set(requests_of("validation"))
    for index, split in enumerate(actions):
        for other in list(actions)[index + 1 :]:
            assert not actions[split] & actions[other]


def requests_of(split):
    """What anybody could ask of a split."""
    plain = (f"{verb} {thing}" for _, verb, thing in (*requests.benign_pool(split), *requests.harm_pool(split, False)))
    return [*plain, *(f"describe {thing}" for _, thing in requests.thing_pool(split))]


def test_what_is_held_out_is_in_the_test_suite_alone():
    for split, rows in ROWS.items():
        novelties = Counter(row["novelty"] for row in rows if row["family"])
        assert (
            set(novelties)
            == {
                "calibration": {"seen", "sirl_only"},
                "traffic": {"seen", "sirl_only"},
                "validation": {"seen", "base_only", "sirl_only"},
                "gate": {"seen", "base_only", "sirl_only"},
                "test": set(families.NOVELTIES),
            }[split]
        )
        assert any(row["new_topic"] for row in rows) == (split == "test")
        held_out = {row["topic"] for row in rows if row["kind"] != "task"} & set(lexicon.NEW_TOPICS)
        assert held_out == (set(lexicon.NEW_TOPICS) if split == "test" else set())


def test_training_meets_neither_new_topics_nor_held_out_families():
    things = [thing for topic in lexicon.NEW_TOPICS for thing in lexicon.HARM_TOPICS[topic]]
    for example in corpus.corpus(0, 20_000):
        for message in example.messages:
            assert not any(thing in message["content"] for thing in things)
            assert "Let plum stand" not in message["content"] and "$ ask" not in message["content"]


def test_a_quarter_of_the_topics_is_new():
    assert len(lexicon.HARM_TOPICS) >= 20 and 4 * len(lexicon.NEW_TOPICS) >= len(lexicon.HARM_TOPICS)


def test_the_test_suite_is_large_enough():
    classes = {"plain": [], "wrapped": [], "borderline": []}
    for row in ROWS["test"]:
        if row["kind"] in ("benign", "borderline"):
            name = "borderline" if row["kind"] == "borderline" else "wrapped" if row["family"] else "plain"
            classes[name].append(row)
    for rows in classes.values():
        assert len(rows) >= 1500 and len({row["action"] for row in rows}) >= 150


def test_a_wrapper_is_no_evidence_of_harm():
    for split, rows in ROWS.items():
        for family in {row["family"] for row in rows if row["family"]}:
            kinds = Counter(row["kind"] for row in rows if row["family"] == family)
            assert kinds["harmful"] and kinds["benign"], (split, family)


def test_traffic_is_mostly_harmless():
    harmful = sum(row["kind"] == "harmful" for row in ROWS["traffic"]) / len(ROWS["traffic"])
    assert harmful == pytest.approx(0.12, abs=0.01)


def test_wrapping_in_families_from_outside(tmp_path):
    path = tmp_path / "families.jsonl"
    path.write_text(json.dumps({"family": "echo", "template": "Echo, echo: {prompt}"}))
    wrapped = suites.wrap(ROWS["validation"], families.load(path))
    assert {(row["family"], row["novelty"]) for row in wrapped} == {("echo", "never")}
    assert all(row["messages"][-1]["content"].startswith("Echo, echo: ") for row in wrapped)
    assert all(from_row(row).family == "echo" for row in wrapped)
    assert "task" not in {row["kind"] for row in wrapped} and len({row["id"] for row in wrapped}) == len(wrapped)
