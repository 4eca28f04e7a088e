"""Campaigns against targets whose ways are known: budgets, failures, resumption, and what counts as reached."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from evaluation import Outcome, Prompt
from evaluation.attacks import ATTACKS, Query
from evaluation.attempt import DIRECT, Case, read
from evaluation.attempt import said as told
from evaluation.campaign import Budget, Campaign
from evaluation.endpoint import EndpointError, Reply
from evaluation.pairwise import reply
from tests.evaluation.endless import ENDLESS, prompt


class Words:
    """Judges by the answer's first word."""

    def judge(self, prompt: Prompt, response: str) -> Outcome:
        return Outcome(response.split()[0]) if response else Outcome.GARBLED


@dataclass
class Known:
    """Answers as it is told to, and remembers what it was asked."""

    answer: Callable[[Query, int], str]
    asked: list[tuple[Query, int]] = field(default_factory=list)

    async def ask(self, query: Query, seed: int) -> Reply:
        self.asked.append((query, seed))
        await asyncio.sleep(0)
        text = self.answer(query, seed)
        return Reply(text, (len(query.messages), 2), guard={"refusal_mass": 0.5})


def refuses(query: Query, seed: int) -> str:
    return "refusal"


def run(campaign: Campaign, every: list[Case]):
    return asyncio.run(campaign.run(every, quiet=True))


def test_an_attack_that_goes_on_ends_with_its_budget(tmp_path: Path) -> None:
    target = Known(refuses)
    (found,) = run(Campaign(target, Words(), tmp_path / "a.jsonl", budget=Budget(7)), [Case(ENDLESS, prompt())])
    assert found.queries == len(target.asked) == 7 and found.outcome is Outcome.REFUSAL
    assert found.tokens == (7, 14, 0, 0) and found.guard == {"refusal_mass": 0.5}
    assert len({seed for _, seed in target.asked}) == 7


def test_it_ends_with_the_first_compliance_which_is_what_is_kept(tmp_path: Path) -> None:
    target = Known(lambda query, seed: "compliance" if query.messages[-1]["content"].startswith("2 ") else "garbled")
    (found,) = run(Campaign(target, Words(), tmp_path / "a.jsonl", budget=Budget(50)), [Case(ENDLESS, prompt())])
    assert found.queries == 9 and found.outcome is Outcome.COMPLIANCE and found.score == 1.0
    assert found.messages[-1]["content"].startswith("2 ") and found.response == "compliance"


def test_what_leads_up_to_the_goal_reaches_nothing(tmp_path: Path) -> None:
    """Crescendo's harmless first turns are answered willingly by anybody."""

    def asks_for_the_goal(query: Query) -> bool:
        return "harmful 0" in query.messages[-1]["content"]

    target = Known(lambda query, seed: "refusal" if asks_for_the_goal(query) else "compliance")
    (found,) = run(Campaign(target, Words(), tmp_path / "a.jsonl"), [Case(ATTACKS["crescendo"], prompt())])
    assert found.outcome is Outcome.REFUSAL and found.queries > 4


def test_a_talk_that_goes_on_is_asked_whole_and_judged_turn_by_turn(tmp_path: Path) -> None:
    """Its outcome is that of the most telling turn, whichever that was; a budget does not cut it."""
    judged: list[str] = []

    class Heard(Words):
        def judge(self, prompt: Prompt, response: str) -> Outcome:
            judged.append(f"{prompt.text}: {response}")
            return super().judge(prompt, response)

    target = Known(lambda query, seed: "answer at last" if len(query.messages) > 1 else "refusal first")
    talk = prompt(kind="benign", turns=("And then?", "And then again?"))
    (attempt,) = run(Campaign(target, Heard(), tmp_path / "a.jsonl", budget=Budget(1)), [Case(DIRECT, talk)])
    assert (attempt.outcome, attempt.response, attempt.queries) == (Outcome.REFUSAL, "refusal first", 3)
    turns = ["benign 0", "refusal first", "And then?", "answer at last", "And then again?", "answer at last"]
    assert [turn["content"] for turn in attempt.talk] == turns
    expected = [f"{asked}: {answered}" for asked, answered in zip(turns[::2], turns[1::2], strict=True)]
    assert judged == expected and [f"{one.text}: {answered}" for one, answered in told(talk, attempt)] == expected
    assert reply(talk, attempt).startswith("assistant: refusal first\n\nuser: And then?\n\nassistant: answer at last")


def test_what_is_known_is_not_asked_again_and_a_torn_line_is(tmp_path: Path) -> None:
    every, record = [Case(DIRECT, prompt(number)) for number in range(5)], tmp_path / "a.jsonl"
    run(Campaign(Known(refuses), Words(), record), every)
    lines = record.read_text().splitlines()
    record.write_text("\n".join(lines[:3]) + "\n" + lines[3][:40])
    target = Known(refuses)
    found = run(Campaign(target, Words(), record), every)
    assert len(target.asked) == 2 and {one.prompt for one in found} == {case.prompt.id for case in every}


def test_the_same_case_asks_the_same(tmp_path: Path) -> None:
    asked = []
    for name in "ab":
        target = Known(refuses)
        run(Campaign(target, Words(), tmp_path / name, budget=Budget(9)), [Case(ENDLESS, prompt(), 3)])
        asked.append(target.asked)
    assert asked[0] == asked[1]


def test_a_request_that_fails_is_no_refusal_and_is_asked_again(tmp_path: Path) -> None:
    def flaky(query: Query, seed: int) -> str:
        if "harmful 1" in query.messages[-1]["content"]:
            raise EndpointError("it is down.")
        return "refusal"

    every, record = [Case(DIRECT, prompt(number)) for number in range(3)], tmp_path / "a.jsonl"
    found = {one.prompt: one for one in run(Campaign(Known(flaky), Words(), record), every)}
    assert found["harmful-1"].outcome is None and found["harmful-1"].error == "it is down."
    target = Known(refuses)
    found = {one.prompt: one for one in run(Campaign(target, Words(), record), every)}
    assert len(target.asked) == 1 and found["harmful-1"].outcome is Outcome.REFUSAL


def test_a_request_that_does_not_suit_the_target_does_not_end_an_attack(tmp_path: Path) -> None:
    def short(query: Query, seed: int) -> str:
        if len(query.messages) > 20:
            raise EndpointError("too long.", unfit=True)
        return "refusal"

    (found,) = run(Campaign(Known(short), Words(), tmp_path / "a"), [Case(ATTACKS["many_shot"], prompt())])
    assert found.outcome is Outcome.REFUSAL and found.queries == 3
    never = Known(lambda query, seed: short(Query(query.messages * 9), seed))
    with pytest.raises(EndpointError, match="too long"):
        run(Campaign(never, Words(), tmp_path / "b"), [Case(ATTACKS["many_shot"], prompt())])
    assert [one.outcome for one in read(tmp_path / "b").values()] == [None]


def test_where_nobody_answers_it_gives_up_soon_and_says_why(tmp_path: Path) -> None:
    def dead(query: Query, seed: int) -> str:
        raise EndpointError("nobody is there.")

    target = Known(dead)
    campaign = Campaign(target, Words(), tmp_path / "a.jsonl", at_once=2)
    with pytest.raises(EndpointError, match="nobody is there"):
        run(campaign, [Case(DIRECT, prompt(number)) for number in range(100)])
    assert len(target.asked) < 20


def test_other_models_are_asked_and_their_tokens_counted_apart(tmp_path: Path) -> None:
    writer = Known(lambda query, seed: json.dumps({"improvement": "", "prompt": "please"}))
    target = Known(refuses)
    campaign = Campaign(target, Words(), tmp_path / "a.jsonl", {"attacker": writer}, Budget(6))
    (found,) = run(campaign, [Case(ATTACKS["pair"], prompt())])
    assert found.queries == 6 and {query.messages[-1]["content"] for query, _ in target.asked} == {"please"}
    assert found.tokens[3] == 2 * len(writer.asked) > 0
    mute = Campaign(target, Words(), tmp_path / "b.jsonl", {"attacker": Known(lambda query, seed: "")}, Budget(6))
    with pytest.raises(EndpointError, match="an attacker that answers"):
        run(mute, [Case(ATTACKS["pair"], prompt())])


def test_out_of_time_no_more_is_begun(tmp_path: Path) -> None:
    target = Known(refuses)
    campaign = Campaign(target, Words(), tmp_path / "a.jsonl", budget=Budget(1, minutes=1e-9), at_once=1)
    assert run(campaign, [Case(DIRECT, prompt(number)) for number in range(5)]) == [] and not target.asked


def test_no_more_cases_are_under_way_at_once_than_asked_for(tmp_path: Path) -> None:
    under_way, most = 0, 0

    class Slow(Known):
        async def ask(self, query: Query, seed: int) -> Reply:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return Reply("refusal")

    run(Campaign(Slow(refuses), Words(), tmp_path / "a.jsonl", at_once=3), [Case(DIRECT, prompt(n)) for n in range(12)])
    assert most == 3
