"""API keys of clients: which routes need one, and whether a given one is right.

vLLM asks for a key below four prefixes and lets `/invocations`, which generates as well, go without (vLLM #58144); and it
does not know the header that Anthropic's clients send (vLLM #51572). So its check is taken out, and this one asks instead.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.request.errors import RefusedRequest, refuse

PUBLIC = frozenset({"/health", "/ping", "/version", "/load", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""What may be looked at without a key: probes, and the description of the API."""
PUBLIC_BELOW = ("/metrics", "/static")
GUARD = "/guard/"
"""Administration has keys of its own (access.py)."""
CHECKED = "sirl.key"
"""Where the scope of a request says which key of ours it came with."""


def route_path(scope: Scope) -> str:
    """The path that the router goes by: below --root-path, where the request has it."""
    return get_route_path(scope)


def bearer(authorization: bytes) -> bytes:
    """The key in an Authorization header, whose scheme may be in any case; of another scheme the whole header."""
    scheme, _, key = authorization.strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else authorization


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Of a header that comes twice the first counts, as for vLLM."""
    return dict(reversed(scope["headers"]))


def given(headers: Mapping[bytes, bytes]) -> list[bytes]:
    """The keys that a request came with, in the order in which they count."""
    found = (bearer(headers.get(b"authorization", b"")), headers.get(b"x-api-key", b"").strip())
    return [key for key in found if key]


def public(method: str, path: str) -> bool:
    """Whether anybody may ask this."""
    if path.startswith(GUARD) or method == "OPTIONS":
        return True
    below = any(path == root or path.startswith(f"{root}/") for root in PUBLIC_BELOW)
    return method in ("GET", "HEAD") and (below or path in PUBLIC)


class KeyMiddleware:
    """Turns away whoever has no key, before anything of the request is read; puts the one that was right into the scope."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[str]) -> None:
        self.app = app
        self.digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.digests or scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        key = self.right(given(headers_of(scope)))
        if key is None and not public(scope.get("method", ""), route_path(scope)):
            message = "The API key is missing or wrong: send it as `Authorization: Bearer <key>`, or as `x-api-key`."
            return await refuse(RefusedRequest(401, message, "authentication_error"), scope, receive, send)
        return await self.app(scope if key is None else {**scope, CHECKED: key}, receive, send)

    def right(self, keys: Sequence[bytes]) -> bytes | None:
        """The first of these that is one of ours. All are compared, each in constant time."""
        found = None
        for key in reversed(keys):
            digest = hashlib.sha256(key).digest()
            if any([hmac.compare_digest(digest, known) for known in self.digests]):  # a list: no early end
                found = key
        return found
