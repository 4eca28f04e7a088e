"""What is stored of who asks: hashes."""

from __future__ import annotations

from online.events.client import client_hash


def test_client_hash() -> None:
    assert len(client_hash("key", "salt")) == 32
    assert len({client_hash("key", "salt"), client_hash("key", "pepper"), client_hash("yek", "salt")}) == 3
