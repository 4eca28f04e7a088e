"""What the guard is shown, and what its words do."""

import pytest

from evaluation.attacks import Query
from evaluation.endpoint import Endpoint, EndpointError, Reply
from evaluation.peers import Manner, defended
from evaluation.peers.llm_guard import VERDICT, LLMGuard
from evaluation.peers.refusal import REFUSAL
from tests.evaluation.peers.simulated import ANSWER, GOAL, TOKENS, Simulated, ask

USER = {"role": "user", "content": GOAL}
ANSWERED = {"role": "assistant", "content": ANSWER}


def verdicts(*words: str) -> Simulated:
    left = iter(words)
    return Simulated(lambda query, seed: Reply(next(left), (100, 1)))


def test_question_then_response_are_shown_without_the_system():
    target, guard = Simulated(), verdicts("safe", "safe")
    query = Query(({"role": "system", "content": "You sell tickets."}, USER), temperature=0.7, max_tokens=99, logprobs=2)
    assert ask(LLMGuard(target, guard), query, 4).tokens == (TOKENS[0] + 200, TOKENS[1] + 2)
    shown = [Query(messages, temperature=0.0, max_tokens=VERDICT) for messages in ((USER,), (USER, ANSWERED))]
    assert guard.asked == [(one, 4) for one in shown] and target.asked == [(query, 4)]


@pytest.mark.parametrize(
    ("words", "reply", "asked"),
    [
        (["unsafe\nS9"], Reply(REFUSAL, (100, 1)), 0),
        (["safe", "unsafe"], Reply(REFUSAL, (207, 5)), 1),
        (["\n\nSafe", "safe."], Reply(ANSWER, (207, 5)), 1),
        (["safely"], Reply(REFUSAL, (100, 1)), 0),
        (["It is safe"], Reply(REFUSAL, (100, 1)), 0),
        ([""], Reply(REFUSAL, (100, 1)), 0),
    ],
)
def test_only_a_clear_safe_lets_pass_and_all_tokens_are_counted(words, reply, asked):
    target = Simulated()
    assert ask(LLMGuard(target, verdicts(*words))) == reply and len(target.asked) == asked


@pytest.mark.parametrize(
    ("when", "roles"), [("both", ["user", "assistant"]), ("before", ["user"]), ("after", ["assistant"])]
)
def test_the_spec_says_whom_and_when_it_asks(when, roles):
    target, guard = Simulated(), verdicts("safe", "safe")
    made = defended(f"llm-guard:some/model@http://127.0.0.1:9/v1,when={when}", target, Manner("No.", key="SOME_KEY"))
    assert isinstance(made, LLMGuard) and isinstance(made.guard, Endpoint) and made.refusal == "No."
    assert (made.guard.model, made.guard.url, made.guard.key) == ("some/model", "http://127.0.0.1:9/v1", "SOME_KEY")
    ask(LLMGuard(target, guard, made.before, made.after))
    assert [query.messages[-1]["role"] for query, _ in guard.asked] == roles


def test_the_targets_key_is_not_the_guards(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-target")
    made = defended("llm-guard:model@http://127.0.0.1:9/v1", Simulated())
    assert made.guard.client.api_key != "of-the-target" and made.before and made.after


def test_a_guard_that_fails_fails_the_request():
    error = EndpointError("The guard is down: start it.")
    with pytest.raises(EndpointError) as raised:
        ask(LLMGuard(Simulated(), Simulated(error)))
    assert raised.value is error
