"""Endpoints that are particular about what they are asked."""

from __future__ import annotations

import asyncio

from evaluation.attacks import Query
from evaluation.endpoint import Endpoint, Reply
from tests.evaluation.endpoint_server import Served

QUESTION = Query(({"role": "user", "content": "How do I harm the mill? The temperature and the max_tokens are unknown."},))


def error(message: str, status: int = 400, **more: object) -> tuple[int, dict]:
    return status, {"error": {"message": message, "type": "invalid_request_error", **more}}


def ask(served: Served, times: int = 1, at_once: bool = False) -> list[Reply]:
    async def asked() -> list[Reply]:
        endpoint = Endpoint(served.url, "m", max_tokens=9)
        async with endpoint.client:
            if at_once:
                return list(await asyncio.gather(*(endpoint.ask(QUESTION, seed) for seed in range(times))))
            return [await endpoint.ask(QUESTION, seed) for seed in range(times)]

    return asyncio.run(asked())


INNER = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}
AZURE = "The response was filtered due to the prompt triggering the content management policy."
