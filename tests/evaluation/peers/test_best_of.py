"""Which of n is sent."""

import pytest

from evaluation.attacks import Query
from evaluation.ending import Ending
from evaluation.endpoint import EndpointError, Reply
from evaluation.peers import Manner, defended
from evaluation.peers.best_of import unsure
from tests.evaluation.peers.simulated import ANSWER, GOAL, Simulated, ask, question


def saying(*replies: Reply) -> Simulated:
    left = iter(replies)
    return Simulated(lambda query, seed: next(left))


def reply(text: str, *logprobs: float, entropy: float | None = None) -> Reply:
    guard = None if entropy is None else {"entropy": {"mean": entropy}}
    return Reply(text, (10, len(logprobs)), tuple({text: value, "other": -9.0} for value in logprobs), guard)


def test_the_least_entropy_is_sent_where_the_guard_reports_it():
    target = saying(reply("a", -0.1, entropy=0.9), reply("b", -3.0, entropy=0.2), reply("c", -0.2, entropy=0.5))
    sent = ask(defended("best-of:3", target))
    assert (sent.text, sent.tokens, sent.logprobs) == ("b", (30, 3), ()) and sent.guard == {"entropy": {"mean": 0.2}}


def test_else_the_likeliest_by_its_mean_token():
    target = saying(reply("a", -0.5), reply("b", -0.1, -0.2, -0.1, -0.2, -0.1), reply("c", -0.3))
    assert ask(defended("best-of:3", target)).text == "b", "a sum would have chosen c"
    assert {(query.logprobs, query.temperature) for query, _ in target.asked} == {(1, 1.0)}


def test_one_report_that_lacks_makes_logprobs_count_for_all():
    assert unsure([reply("a", -0.5, entropy=0.1), reply("b", -0.4)]) == [0.5, 0.4]
    assert unsure([Reply("a", guard={"action": "halt"}, logprobs=({"a": -2.0},)), reply("b", -0.4)]) == [2.0, 0.4]
    assert unsure([reply("a", -0.5, entropy=0.0), reply("b", -0.4, entropy=1.0)]) == [0.0, 1.0], "0 is a report"


def test_the_first_of_equals_is_sent():
    assert ask(defended("best-of:3", saying(reply("a", -1.0), reply("b", -0.5), reply("c", -0.5)))).text == "b"


def test_more_alternatives_are_asked_for_only_where_the_query_does():
    target = saying(reply("a", -0.5), reply("b", -0.1))
    sent = ask(defended("best-of:2", target), Query(question().messages, logprobs=5))
    assert sent.logprobs == ({"b": -0.1, "other": -9.0},) and {query.logprobs for query, _ in target.asked} == {5}


def test_an_endpoint_that_tells_nothing_is_named_and_alike_answers_need_no_telling():
    with pytest.raises(EndpointError, match="neither entropy nor logprobs"):
        ask(defended("best-of:2", saying(Reply("a"), Reply("b"))))
    assert ask(defended("best-of:2", saying(Reply("a"), Reply("a")))).text == "a"


@pytest.mark.parametrize(("refusals", "n", "sent"), [(0, 4, "Sure 0."), (1, 4, "Sure 1."), (2, 4, "No 0."), (3, 5, "No 0.")])
def test_votes(refusals, n, sent):
    target = saying(*(reply(f"No {at}." if at < refusals else f"Sure {at}.", -1.0) for at in range(n)))
    manner = Manner(is_refusal=lambda text: text.startswith("No"))
    assert ask(defended(f"best-of:{n},by=refusals", target, manner)) == Reply(sent, (10 * n, n), ())
    assert {query.logprobs for query, _ in target.asked} == {0}


def test_the_spec_has_two_ways_to_say_how_many():
    for spec in ("best-of:3,by=refusals", "best-of:n=3,by=refusals"):
        target = Simulated()
        assert ask(defended(spec, target), GOAL).text == ANSWER and len(target.asked) == 3


def test_who_said_nothing_yet_is_not_the_surest_and_a_filter_refuses():
    unsaid, filtered = Reply("", ending=Ending.UNDECIDED), Reply("", ending=Ending.FILTERED)
    assert ask(defended("best-of:2", saying(unsaid, reply("a", -0.5)))).text == "a"
    assert ask(defended("best-of:3,by=refusals", saying(Reply("Yes."), filtered, filtered))).ending is Ending.FILTERED
