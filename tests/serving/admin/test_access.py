"""Keys and their roles, without an engine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import HTTPException

from online.settings.groups import GuardSettings
from online.state.directory import StateDir
from serving.admin import access
from serving.admin.access import Access, Bucket, Role


def asks(key: str = "", peer: str = "10.0.0.1") -> SimpleNamespace:
    """A request, as much of it as is looked at."""
    return SimpleNamespace(
        client=SimpleNamespace(host=peer), headers={"authorization": f"Bearer {key}"}, scope={"http_version": "1.1"},
        method="GET", url=SimpleNamespace(path="/guard/v1/status"),
    )  # fmt: skip


def status(opened: Access, key: str, peer: str = "10.0.0.1") -> int:
    with pytest.raises(HTTPException) as refused:
        opened.role(asks(key, peer))
    return refused.value.status_code


@pytest.fixture
def opened(tmp_path: Path) -> Access:
    return Access(GuardSettings(admin_key="a" * 16, read_key="r" * 16), StateDir(tmp_path))


def test_a_key_has_its_role_and_no_key_has_none(opened: Access, tmp_path: Path) -> None:
    assert opened.role(asks("a" * 16)) is Role.APPROVE and opened.role(asks("r" * 16)) is Role.READ
    for wrong in ("", "a" * 15, "a" * 17, "é" * 16):
        assert status(opened, wrong) == 401
    alone = Access(GuardSettings(), StateDir(tmp_path))
    assert status(alone, "") == 403 and status(alone, "", "127.0.0.1") == 403, "a loopback peer names localhost too"


def test_an_address_that_guesses_waits_and_others_do_not(opened: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(access, "monotonic", lambda: clock[0])
    assert [status(opened, "guess") for _ in range(12)] == [401] * 10 + [429] * 2
    assert opened.role(asks("a" * 16, "10.0.0.2")) is Role.APPROVE
    clock[0] += 7
    assert [status(opened, "guess") for _ in range(2)] == [401, 429]
    for number in range(access.ADDRESSES + 10):
        opened._count(f"address {number}")
    assert len(opened._wrong) == access.ADDRESSES


def test_a_bucket_refills_to_its_brim(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(access, "monotonic", lambda: clock[0])
    bucket = Bucket(2.0, 3)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock[0] += 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    clock[0] += 60
    assert not bucket.empty and [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_scheme_is_a_scheme_in_any_case(opened: Access) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        asked = asks()
        asked.headers = {"authorization": f"{scheme} {'a' * 16}"}
        assert opened.role(asked) is Role.APPROVE
    assert not opened._wrong, "and none of them counts as a wrong key"


def test_who_has_a_whole_network_has_one_address(opened: Access) -> None:
    """A /64 is one holder's; an IPv4 address is the same however it is written."""
    tried = [status(opened, "guess", f"2001:db8:0:1::{number:x}") for number in range(1, 12)]
    assert tried == [401] * 10 + [429]
    assert status(opened, "guess", "2001:db8:0:2::1") == 401
    assert [status(opened, "guess", f"{form}10.0.0.3") for form in ("", "::ffff:") * 6] == [401] * 10 + [429] * 2


def test_who_looks_often_keeps_nobody_from_acting(opened: Access) -> None:
    for _ in range(access.REQUESTS[1]):
        opened.admit(Role.READ)
    with pytest.raises(HTTPException) as refused:
        opened.admit(Role.READ)
    assert refused.value.status_code == 429
    opened.admit(Role.APPROVE)


def test_a_flood_of_denied_requests_is_counted_rather_than_kept(
    opened: Access, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = [0.0]
    monkeypatch.setattr(access, "monotonic", lambda: clock[0])
    opened._denied.at = 0.0
    for number in range(300):  # each from a network of its own, so that none is slowed down
        asked = asks("guess", f"2001:db8:{number:x}::1")
        asked.url.path = "/guard/v1/" + "x" * 60_000
        with pytest.raises(HTTPException):
            opened.role(asked)
    clock[0] += 60
    opened.deny(asks("r" * 16), Role.READ)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert len(lines) == access.DENIED[1] + 1 and max(len(line["path"]) for line in lines) < 250
    assert lines[-1]["left_out"] == 300 - access.DENIED[1] and lines[-1]["role"] == "read" and "left_out" not in lines[0]
