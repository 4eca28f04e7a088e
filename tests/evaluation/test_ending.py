"""How an answer ended: said, withheld, refused by a filter, or open."""

from __future__ import annotations

import pytest

from evaluation.ending import Ending
from tests.evaluation.endpoint_server import chat, serving
from tests.evaluation.particular import AZURE, INNER, ask, error

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PROXIED = {"code": "400", "provider_specific_fields": {"innererror": INNER}}


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (error(AZURE, param="prompt", code="content_filter", innererror=INNER), Ending.FILTERED),
        (error(AZURE, param="prompt", code="content_filter"), Ending.FILTERED),
        (error(AZURE, innererror=INNER), Ending.FILTERED),
        (error(AZURE, **PROXIED), Ending.FILTERED),
        (error(AZURE, status=403, code="content_policy_violation"), Ending.FILTERED),
        (chat({"content": ""}, "content_filter"), Ending.FILTERED),
        (chat({"content": None}, "content_filter"), Ending.FILTERED),
        (chat({}, "content_filter"), Ending.FILTERED),
        (chat({"content": "First, take"}, "content_filter"), Ending.SAID),
        (chat({"content": None, "reasoning_content": "They want"}, "length"), Ending.UNDECIDED),
        (chat({"content": None, "reasoning": "They want"}, "length"), Ending.UNDECIDED),
        (chat({"content": "", "reasoning": "They want"}, "length"), Ending.UNDECIDED),
        (chat({"content": "<think>They want"}, "length"), Ending.UNDECIDED),
        (chat({"content": "<think>Harm?</think>First, take"}, "length"), Ending.SAID),
        (chat({"content": None}, "length", {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12,
              "completion_tokens_details": {"reasoning_tokens": 9}}), Ending.UNDECIDED),
        (error("Could not finish the message because max_tokens or model output limit was reached."), Ending.UNDECIDED),
        (chat({"content": None, "tool_calls": [CALL]}, "tool_calls"), Ending.UNDECIDED),
        (chat({"content": "", "reasoning": "They want harm."}, "stop"), Ending.SAID),
        (chat({"content": ""}, "length"), Ending.SAID),
        (chat({"content": None, "refusal": "I can't help with that."}, "stop"), Ending.SAID),
    ],
)  # fmt: skip
def test_what_is_withheld_or_open_is_told_from_what_was_said(said, ending) -> None:
    with serving(lambda body: said) as served:
        (reply,) = ask(served)
    assert reply.ending is ending and len(served.bodies) == 1
    if ending is not Ending.SAID:
        assert reply.text in ("", "<think>They want")
