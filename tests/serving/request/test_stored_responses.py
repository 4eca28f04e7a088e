"""Responses that vLLM stores are marked as they are put in; tests/serving/request/test_policies.py asks for them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from guard.policy import Action
from serving.request.exchange import Exchange, current
from serving.request.stored_responses import StoredResponses
from tests.serving.request.edge import answer


def response() -> SimpleNamespace:
    output = [SimpleNamespace(type=kind, status="completed") for kind in ("reasoning", "message")]
    return SimpleNamespace(status="completed", incomplete_details=None, output=output)


@pytest.mark.parametrize("action", [Action.NONE, Action.HALT])
def test_one_that_was_halted_says_so_and_others_are_left_alone(action: Action) -> None:
    request, told = Exchange(path="/v1/responses"), answer()
    told.action = action
    request.answers.append(told)
    store, before = StoredResponses({"earlier": response()}), current.set(request)
    try:
        store["now"] = response()
    finally:
        current.reset(before)
    halted = action is Action.HALT
    assert store["now"].status == store["now"].output[1].status == ("incomplete" if halted else "completed")
    assert (store["now"].incomplete_details.reason == "content_filter") if halted else not store["now"].incomplete_details
    assert store["now"].output[0].status == "completed" and store["earlier"] == response()


def test_what_is_stored_outside_a_request_is_kept_as_it_is() -> None:
    store = StoredResponses({})
    store["background"] = response()
    assert store["background"] == response()
