"""A version comes to serve by stages, on a real engine: unseen, for some clients, for all; and goes where it is worse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import models
from benchmarks import adapters
from evaluation import load_suite
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.conftest import Server, running

pytestmark = pytest.mark.engine
FLAGS = (
    "--guard-clients=keys",
    "--release-shadow=1",
    "--release-canary=0.5",
    "--release-responses=40",
    "--release-ttft=10000",  # this machine's are everybody's
)
ASKED = [row.messages[-1]["content"] for row in load_suite(models.suite("traffic")) if row.kind in ("benign", "task")]


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("release") / "state", *FLAGS) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server


@pytest.fixture(scope="module")
def registry(released: Server) -> Registry:
    return Registry(StateDir(released.state), fingerprint(models.bundled()))


def published(registry: Registry, folder: Path, seed: int, scale: float) -> int:
    """A version as if its gate had promoted it."""
    version = registry.import_adapter(adapters.make(folder, seed, scale=scale), base_dir=models.bundled(), max_rank=16)
    registry.attach(version, "evaluation", {"decision": "promoted", "reasons": []})
    return version


def ask(server: Server, number: int, client: str, **options) -> dict:
    body = server.chat(ASKED[number % len(ASKED)], {"authorization": f"Bearer {client}"}, **{"seed": number, **options})
    (entry,) = body["guard"]
    return entry


def status(server: Server) -> dict:
    return server.get("/guard/v1/status").json()


CLIENTS = 24
"""Enough that the lot, which goes by a salt drawn at the start, gives both sides of a canary several."""


def asked_until(server: Server, condition, limit: int = 600) -> list[dict]:
    """Clients ask until `condition(status)`; the guard's entries of what they got until it last did not hold."""
    seen: list[dict] = []
    for number in range(limit):
        seen.append(ask(server, number, f"client-{number % CLIENTS}"))
        if number % 5 == 4 and condition(status(server)):
            return seen[:-5]
    raise AssertionError(f"nothing came of {limit} requests: {status(server)}\n{server.log.read_text()[-2000:]}")


def test_a_version_that_is_no_worse_comes_to_serve_by_its_stages(released, registry, tmp_path):
    version = published(registry, tmp_path / "lora", 1, scale=1e-4)
    name = f"v{version}"
    answer = released.post(f"/guard/v1/adapters/{name}/release", {})
    assert answer.status_code == 200 and answer.json() == {"version": name, "stage": "shadow"}
    seen = asked_until(released, lambda now: (now["release"] or {}).get("stage") == "canary")
    assert {entry["adapter"] for entry in seen} == {"base"}, "nobody sees what answers in the shadow"
    given: dict[int, set[str]] = {}
    for number in range(60):
        given.setdefault(number % CLIENTS, set()).add(ask(released, number, f"client-{number % CLIENTS}")["adapter"])
        if status(released)["adapter"] == name:
            break
    assert all(len(got) == 1 for got in given.values()) or status(released)["adapter"] == name, "a client keeps its version"
    assert {adapter for got in given.values() for adapter in got} == {"base", name}
    asked_until(released, lambda now: now["adapter"] == name and now["release"] is None)
    assert registry.live() == version and released.metric("sirl_releases_total") >= 1
    assert released.post("/guard/v1/adapters/base/activate", {}).status_code == 200
    released.wait(lambda: set(status(released)["loaded"]) == {"base"})


def test_one_that_answers_otherwise_is_taken_back_before_anybody_sees_it(released, registry, tmp_path):
    version = published(registry, tmp_path / "lora", 2, scale=1.0)
    released.post(f"/guard/v1/adapters/v{version}/release", {})
    released.wait(lambda: status(released)["release"])
    seen = asked_until(released, lambda now: now["release"] is None)
    assert {entry["adapter"] for entry in seen} == {"base"} and registry.live() is None
    said = [line for line in registry._state.audit_path.read_text().splitlines() if "adapter.withdrawn" in line]
    assert '"actor": "health"' in said[-1] and "that is allowed" in said[-1]
    released.wait(lambda: set(status(released)["loaded"]) == {"base"})


def nothing_but_nan(registry: Registry, folder: Path) -> int:
    """A version of finite weights, so large that what they compute is none."""
    path = adapters.make(folder / "broken", 3) / "adapter_model.safetensors"
    save_file({name: torch.full_like(value, 3e37) for name, value in load_file(path).items()}, path)
    version = registry.import_adapter(path.parent, base_dir=models.bundled(), max_rank=16)
    registry.attach(version, "evaluation", {"decision": "promoted", "reasons": []})
    return version


def test_one_that_is_broken_is_taken_back_within_a_request(released, registry, tmp_path):
    version = nothing_but_nan(registry, tmp_path / "lora")
    assert released.post(f"/guard/v1/adapters/v{version}/activate", {}).json() == {"live": f"v{version}"}
    before = released.metric("sirl_rollbacks_total")
    assert ask(released, 0, "anybody")["adapter"] == f"v{version}"
    released.wait(lambda: status(released)["adapter"] == "base")
    assert ask(released, 1, "anybody")["entropy"]["mean"] is not None and registry.live() is None
    released.wait(lambda: released.metric("sirl_rollbacks_total") == before + 1)


def test_a_broken_one_in_the_shadow_goes_with_its_first_answer(released, registry, tmp_path):
    version = nothing_but_nan(registry, tmp_path / "lora")
    released.post(f"/guard/v1/adapters/v{version}/release", {})
    released.wait(lambda: status(released)["release"])
    assert ask(released, 0, "anybody")["adapter"] == "base"
    released.wait(lambda: status(released)["release"] is None)
    assert registry.live() is None and registry.releasing() is None


def test_operators_take_each_step_by_hand(released, registry, tmp_path):
    version = published(registry, tmp_path / "lora", 4, scale=1e-4)
    stages = [released.post(f"/guard/v1/adapters/v{version}/release", {}).json()["stage"] for _ in range(2)]
    assert stages == ["shadow", "canary"] and registry.releasing().version == version
    released.wait(lambda: status(released)["release"])
    assert released.post("/guard/v1/release/withdraw", {}).json() == {"release": None}
    released.wait(lambda: status(released)["release"] is None)
    assert released.post("/guard/v1/adapters/v999/release", {}).status_code == 409
    assert released.post("/guard/v1/adapters/x/release", {}).status_code == 404


def test_clients_may_have_one_version_for_good(released, registry, tmp_path):
    version, other = (published(registry, tmp_path / f"lora-{seed}", seed, scale=0.2) for seed in (5, 6))
    names = lambda: {model["id"] for model in released.get("/v1/models").json()["data"]}  # noqa: E731
    assert names() == {"sirl-tiny", "sirl-tiny@base"}
    assert released.post(f"/guard/v1/adapters/v{version}/pin", {}).status_code == 200
    released.wait(lambda: f"sirl-tiny@v{version}" in names())
    registry.activate(other, actor="test", reason="test")
    released.wait(lambda: status(released)["adapter"] == f"v{other}" and f"sirl-tiny@v{other}" in names())
    asked = {model: ask(released, 0, "anybody", model=model)["adapter"]
             for model in ("sirl-tiny", f"sirl-tiny@v{version}", f"sirl-tiny@v{other}")}  # fmt: skip
    assert list(asked.values()) == [f"v{other}", f"v{version}", f"v{other}"]
    past_it = {"model": "sirl-tiny@base", "messages": [{"role": "user", "content": "hello"}]}
    closed = released.post("/v1/chat/completions", past_it)
    assert closed.status_code == 400 and "sirl-tiny@base" in closed.json()["error"]["message"]
    assert names() == {"sirl-tiny", f"sirl-tiny@v{version}", f"sirl-tiny@v{other}"}, "what is closed is not listed"
    open_to_us = released.post("/v1/chat/completions", past_it, headers=released.internal)
    assert open_to_us.json()["guard"][0]["adapter"] == "base"
    for unknown in ("sirl-tiny@v999", "sirl-tiny@", "sirl-tiny@nobody", "other@base"):
        body = {"model": unknown, "messages": [{"role": "user", "content": "hello"}]}
        assert released.post("/v1/chat/completions", body).status_code == 404
    assert released.post(f"/guard/v1/adapters/v{version}/unpin", {}).status_code == 200
    assert released.post("/guard/v1/adapters/base/activate", {}).status_code == 200
    released.wait(lambda: names() == {"sirl-tiny", "sirl-tiny@base"} and set(status(released)["loaded"]) == {"base"})
