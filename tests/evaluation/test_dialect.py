"""An endpoint is asked in the words that it takes."""

from __future__ import annotations

import pytest

from evaluation.endpoint import EndpointError
from tests.evaluation.endpoint_server import Answer, serving
from tests.evaluation.particular import ask, error


def particular(body: dict) -> Answer:
    """Takes what the reasoning models of OpenAI take, in its words."""
    if "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return error(message, param="max_tokens", code="unsupported_parameter")
    if "temperature" in body:
        message = "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is supported."
        return error(message, param="temperature", code="unsupported_value")
    return "yes"


@pytest.mark.parametrize("at_once", [False, True])
def test_an_endpoint_is_asked_by_the_names_it_takes_and_they_are_remembered(at_once) -> None:
    with serving(particular) as served:
        assert [reply.text for reply in ask(served, 6, at_once)] == ["yes"] * 6
    last = served.bodies[-1]
    assert last["max_completion_tokens"] == 9 and not {"max_tokens", "temperature"} & set(last) and "seed" in last
    assert at_once or len(served.bodies) == 6 + 2, "two refusals taught it all"


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("seed", (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}]})),
        ("temperature", error("`temperature` is deprecated for this model.")),
        ("max_tokens", error("max_tokens is not supported, use max_completion_tokens")),
    ],
)  # fmt: skip
def test_the_same_in_the_words_of_others(refused, said) -> None:
    with serving(lambda body: said if refused in body else "yes") as served:
        assert [reply.text for reply in ask(served, 2)] == ["yes", "yes"]
    assert [refused in body for body in served.bodies] == [True, False, False]
    kept = {"seed", "temperature", "max_tokens"} - {refused}
    assert all(kept <= set(body) for body in served.bodies), "nothing else is left out"


@pytest.mark.parametrize(
    "said",
    [
        error("max_tokens is too large: 9. This model supports at most 4 completion tokens.", param="max_tokens"),
        error("temperature must be at most 2", param="temperature", code="decimal_above_max_value"),
        error("This model does not support images.", param="messages", code="unsupported_value"),
        error("unsupported", status=404),
    ],
)
def test_what_only_does_not_suit_it_is_not_asked_otherwise(said) -> None:
    with serving(lambda body: said) as served, pytest.raises(EndpointError):
        ask(served)
    assert len(served.bodies) == 1 and {"max_tokens", "temperature", "seed"} <= set(served.bodies[0])
