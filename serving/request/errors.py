"""Errors that a request gets before vLLM sees it, in OpenAI's format."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

HEADERS = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "5"}}


class RefusedRequest(Exception):
    """A request that goes no further: the status, and one sentence with cause and mend."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind


async def refuse(refused: RefusedRequest, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or the handshake of a WebSocket, with an error."""
    error = {"message": refused.message, "type": refused.kind, "param": None, "code": refused.status}
    response = JSONResponse({"error": error}, status_code=refused.status, headers=HEADERS.get(refused.status))
    await response(scope, receive, send)
