"""Stored responses (VLLM_ENABLE_RESPONSES_API_STORE): a halted one says so whenever it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types.responses.response import IncompleteDetails

from guard.policy import Action
from serving.api_formats import HALTED_RESPONSE
from serving.request.exchange import current


class StoredResponses(dict[str, Any]):
    """vLLM's store of response objects; one that was halted is marked as it is put in, in the task that answered it."""

    def __init__(self, stored: Mapping[str, Any]) -> None:
        super().__init__(stored)

    def __setitem__(self, identity: str, response: Any) -> None:
        request = current.get()
        if request and any(answer.action is Action.HALT for answer in request.finished()):
            response.status = HALTED_RESPONSE["status"]
            response.incomplete_details = IncompleteDetails(**HALTED_RESPONSE["incomplete_details"])
            for item in response.output:
                if item.type == "message":
                    item.status = HALTED_RESPONSE["status"]
        super().__setitem__(identity, response)
