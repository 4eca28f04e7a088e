"""Access to the administration: by key and role, or from this machine. Wrong keys are slowed down; every act is audited."""

from __future__ import annotations

import hmac
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import IntEnum
from time import monotonic

from fastapi import HTTPException, Request

from online.events.client import address_block
from online.settings.groups import GuardSettings
from online.state.directory import StateDir
from serving.request.api_keys import bearer

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
WRONG_KEYS = (1 / 6, 10)
"""Wrong keys that one address may send (of IPv6 one /64, of which everybody has all): so many a second, and at once."""
REQUESTS = (50.0, 200)
"""Administrative requests of one role that are answered: so many a second, and so many at once."""
DENIED = (1 / 10, 50)
"""Denied requests that are put on record: so many a second, and so many at once. The others are counted."""
ADDRESSES = 4096
"""Addresses whose wrong keys are counted; the ones longest quiet are let go first."""
PATH = 200
"""Characters of a path that are put on record."""


class Role(IntEnum):
    """What a key opens; each opens what the ones before it do."""

    READ = 1
    """What is going on; no text of any prompt."""
    OPERATE = 2
    """Texts, updates, rollback, activation of what passed its gate."""
    APPROVE = 3
    """Activation against the gate."""


class Bucket:
    """Tokens that refill at `rate` a second up to `most`."""

    def __init__(self, rate: float, most: float) -> None:
        self.rate, self.most, self.left, self.at = rate, most, float(most), monotonic()

    @property
    def empty(self) -> bool:
        """Whether there is no token now."""
        now = monotonic()
        self.left, self.at = min(self.most, self.left + (now - self.at) * self.rate), now
        return self.left < 1

    def take(self) -> bool:
        """Whether there was a token."""
        if self.empty:
            return False
        self.left -= 1
        return True


class Access:
    """The keys of one endpoint, and who has used them up. Called from the server's threads."""

    def __init__(self, settings: GuardSettings, state: StateDir) -> None:
        named = ((Role.READ, settings.read_key), (Role.OPERATE, settings.operate_key), (Role.APPROVE, settings.admin_key))
        self.keys = [(role, key.get_secret_value().encode()) for role, key in named if key is not None]
        self.state = state
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, Bucket] = OrderedDict()
        self._requests = {role: Bucket(*REQUESTS) for role in Role}
        self._denied, self._left_out = Bucket(*DENIED), 0

    def role(self, request: Request) -> Role:
        """What the one who asks may do. Raises HTTPException 401, 403 or 429."""
        peer = request.client.host if request.client else ""
        if not self.keys:
            if not at_home(request.headers, peer, request.scope.get("http_version", "")):
                raise HTTPException(403, "Without --guard-admin-key administration is open to localhost only: set a key.")
            return Role.APPROVE
        block = address_block(peer, 32, 64)
        with self._lock:
            if (bucket := self._wrong.get(block)) and bucket.empty:
                raise HTTPException(429, "Too many wrong keys came from this address: wait a minute.")
        given = bearer(request.headers.get("authorization", "").encode("latin-1"))
        # All keys are compared, each in constant time: how long it takes says nothing about any of them.
        opened = max((role for role, key in self.keys if hmac.compare_digest(given, key)), default=None)
        if opened is None:
            self._count(block)
            self.deny(request)
            raise HTTPException(401, "The admin key is missing or wrong: send it as `Authorization: Bearer <key>`.")
        return opened

    def admit(self, role: Role) -> None:
        """Raises HTTPException 429 where administration is asked too often in this role; no other one waits for it."""
        with self._lock:
            if not self._requests[role].take():
                raise HTTPException(429, f"More than {REQUESTS[0]:g} administrative requests came a second: ask less often.")

    def record(self, request: Request, role: Role) -> None:
        """Put an act on record."""
        self.state.audit("admin.request", role=role.name.lower(), **about(request))

    def deny(self, request: Request, role: Role | None = None) -> None:
        """Put a request that was denied on record; of a flood of them some, and how many were left out."""
        with self._lock:
            if not self._denied.take():
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
        known = {} if role is None else {"role": role.name.lower()}
        more = {"left_out": left_out} if left_out else {}
        self.state.audit("admin.denied", **known, **about(request), **more)

    def _count(self, block: str) -> None:
        with self._lock:
            bucket = self._wrong.setdefault(block, Bucket(*WRONG_KEYS))
            self._wrong.move_to_end(block)
            bucket.take()
            while len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)


def about(request: Request) -> dict[str, str]:
    """What the record says of a request; the path is as long as whoever sends it likes."""
    path, peer = request.url.path, request.client.host if request.client else ""
    return {"method": request.method[:16], "path": path if len(path) <= PATH else f"{path[:PATH]}...", "peer": peer}


def needs(role: Role) -> Callable[[Request], Role]:
    """A dependency: `allow`. Not async, so that the audit's disk holds up no stream."""

    def check(request: Request) -> Role:
        return allow(request, role)

    return check


def allow(request: Request, role: Role) -> Role:
    """Let the one who asks go on in this role, and put what is no mere look on record; returns the role that their key has.

    Raises HTTPException 401, 403 or 429.
    """
    access: Access = request.app.state.access
    has = access.role(request)
    access.admit(has)
    if has < role:
        access.deny(request, has)
        raise HTTPException(403, f"This key is for the role {has.name.lower()}, and {role.name.lower()} is needed.")
    if role > Role.READ:
        access.record(request, has)
    return has


def at_home(headers: Mapping[str, str], peer: str, http_version: str) -> bool:
    """Whether a loopback peer itself addresses localhost.

    That keeps a proxy on this machine (HTTP/1.0 is nginx's unless told otherwise), or a web page, from opening the door: a
    page may name localhost itself, but its browser says that a page asks.
    """
    proxied = any(name in headers for name in FORWARDED) or http_version == "1.0"
    page = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") or "origin" in headers
    return not proxied and not page and loopback(peer) and loopback(headers.get("host", ""))


def loopback(host: str) -> bool:
    """Whether a host name or address, port and brackets aside, is this machine's own."""
    name = (
        host.rsplit("]", 1)[0].lstrip("[")
        if host.startswith("[")
        else host.rsplit(":", 1)[0]
        if host.count(":") == 1
        else host
    )
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
