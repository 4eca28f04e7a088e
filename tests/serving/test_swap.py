"""Promotion under load: no failed response, none from two adapters, old versions gone from the engine."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from openai import AsyncOpenAI

import models
from benchmarks import adapters
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.serving import reference
from tests.serving.test_exact import PROMPTS, TOLERANCE, ask, check

pytestmark = pytest.mark.engine
SWAPS = 12
STREAMS = 16


@pytest.fixture(scope="module")
def versions(server, tmp_path_factory) -> dict[str, object]:
    """Two imported adapters of the shared server: name -> folder in the registry. The base serves again afterwards."""
    registry = Registry(StateDir(server.state), fingerprint(models.bundled()))
    made = {}
    for seed in (1, 2):
        source = adapters.make(tmp_path_factory.mktemp("adapter") / "lora", seed)
        version = registry.import_adapter(source, base_dir=models.bundled(), max_rank=16)
        made[f"v{version}"] = registry.path(version)
    yield made
    assert server.post("/guard/v1/adapters/base/activate", {}).status_code == 200


def greedy(server, **options) -> dict:
    return ask(server, PROMPTS[3], {"temperature": 0, "max_tokens": 32, **options})


def test_entropy_is_exact_with_an_adapter(server, versions):
    for name, folder in versions.items():
        assert server.post(f"/guard/v1/adapters/{name}/activate?force=true", {}).json() == {"live": name}
        body = ask(server, PROMPTS[2], {"seed": 4})
        (entry,) = body["guard"]
        assert entry["adapter"] == name
        expected = reference.entropies(body["prompt_token_ids"], body["choices"][0]["token_ids"], folder)
        assert np.abs(np.array(entry["per_token"]) - expected).max() <= TOLERANCE


def test_entropies_are_exact_with_several_adapters_in_a_step(server, versions):
    """Clients of the base and of two versions at once, each held against a forward pass with its own adapter."""
    assert server.get("/guard/v1/status").json()["engine"]["lora"] == "grouped by adapter", "or vLLM's own would be tested"
    folders = {"base": None, **versions}
    assert server.post("/guard/v1/adapters/base/activate", {}).status_code == 200
    for name in versions:
        assert server.post(f"/guard/v1/adapters/{name}/pin", {}).status_code == 200
    offered = {f"sirl-tiny@{name}" for name in folders}
    server.wait(lambda: offered <= {model["id"] for model in server.get("/v1/models").json()["data"]})
    jobs = [(name, prompt, seed) for seed in range(3) for prompt in PROMPTS for name in folders]

    def answer(job: tuple[str, str, int]) -> dict:
        name, prompt, seed = job
        return ask(server, prompt, {"model": f"sirl-tiny@{name}", "seed": seed, "max_tokens": 48})

    with ThreadPoolExecutor(len(jobs)) as pool:
        bodies = list(pool.map(answer, jobs))
    for (name, _, _), body in zip(jobs, bodies, strict=True):
        assert body["guard"][0]["adapter"] == name
        assert check(body, folders[name]) > 0
    for name in versions:
        assert server.post(f"/guard/v1/adapters/{name}/unpin", {}).status_code == 200


def test_swaps_under_load(server, versions):
    """Every greedy stream ends well and says what its own adapter says, whatever became live meanwhile."""
    said = {}
    for name in ("base", *versions):
        server.post(f"/guard/v1/adapters/{name}/activate?force=true", {})
        said[name] = greedy(server)["choices"][0]["message"]["content"]
    assert len(set(said.values())) == 3, f"the adapters of this test must differ in what they say: {said}"
    seen: list[tuple[str, str]] = []

    async def stream(client: AsyncOpenAI, stop: asyncio.Event) -> None:
        while not stop.is_set():
            text, adapter = "", None
            chunks = await client.chat.completions.create(
                model="sirl-tiny",
                messages=[{"role": "user", "content": PROMPTS[3]}],
                temperature=0,
                max_tokens=32,
                stream=True,
            )
            async for chunk in chunks:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                for entry in (chunk.model_extra or {}).get("guard", []):
                    adapter = entry["adapter"]
            seen.append((adapter, text))

    async def run() -> None:
        stop, order = asyncio.Event(), ["base", *versions]
        async with AsyncOpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0, timeout=120) as client:
            streams = [asyncio.create_task(stream(client, stop)) for _ in range(STREAMS)]
            for turn in range(SWAPS):
                answer = await asyncio.to_thread(
                    server.post, f"/guard/v1/adapters/{order[turn % 3]}/activate?force=true", {}
                )
                assert answer.status_code == 200, answer.text
                mark = len(seen)
                while len(seen) < mark + STREAMS:
                    await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*streams)

    asyncio.run(run())
    assert {adapter for adapter, _ in seen} == {"base", *versions}
    mixed = {(adapter, text) for adapter, text in seen if text != said[adapter]}
    assert not mixed, f"{mixed} instead of {said}"

    def drained() -> bool:
        loaded = server.get("/guard/v1/status").json()["loaded"]
        return 0 < len(loaded) <= 2 and set(loaded) <= {"base", *versions}

    server.wait(drained)


def test_commands_activate_and_roll_back(server, versions):
    """`sirl adapters` writes the registry; the running server takes it up by itself."""

    def sirl(*words: str) -> str:
        command = [sys.executable, "-m", "serving", "adapters", *words, "--state-dir", str(server.state)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    forced, passed = versions
    registry = Registry(StateDir(server.state), fingerprint(models.bundled()))
    registry.attach(int(passed[1:]), "evaluation", {"decision": "promoted"})
    for name in (passed, forced):
        sirl("activate", name, "--force")
        server.wait(lambda name=name: greedy(server)["guard"][0]["adapter"] == name)
    sirl("rollback")
    server.wait(lambda: greedy(server)["guard"][0]["adapter"] == passed)
    assert f"{forced}\tretired" in sirl("list") and f"live: {passed}" in sirl("list")
    sirl("activate", forced, "--force")
    sirl("activate", "base")
    assert "base is live again" not in sirl("rollback"), "over the one that was forced, to the one that passed"
    server.wait(lambda: greedy(server)["guard"][0]["adapter"] == passed)


def test_swaps_leave_no_series_behind(server, versions):
    """Whatever was live: vLLM's metrics name versions as one, and ours name the live one alone."""
    for name in (*versions, "base"):
        server.post(f"/guard/v1/adapters/{name}/activate?force=true", {})
        greedy(server)
    lines = server.get("/metrics").text.splitlines()
    running = {word for line in lines for word in re.findall(r'(?:running|waiting)_lora_adapters="([^"]*)"', line)}
    assert {name for names in running for name in names.split(",")} == {"", "sirl"}
    assert [line for line in lines if line.startswith("sirl_active_adapter_info")] == [
        'sirl_active_adapter_info{adapter="base"} 1.0'
    ]


def test_pins_by_the_api(server, versions):
    first, second = versions
    assert server.post(f"/guard/v1/adapters/{first}/pin", {}).json() == {"pinned": [first]}
    listed = server.get("/guard/v1/adapters").json()["adapters"]
    assert [one["version"] for one in listed if one["pinned"]] == [first]
    assert server.post(f"/guard/v1/adapters/{second}/unpin", {}).json() == {"pinned": [first]}
    assert server.post(f"/guard/v1/adapters/{first}/unpin", {}).json() == {"pinned": []}


def test_what_no_gate_has_promoted_needs_force(server, versions):
    name = next(iter(versions))
    answer = server.post(f"/guard/v1/adapters/{name}/activate", {})
    assert answer.status_code == 409 and "has not been through its gate" in answer.json()["error"]["message"]


def test_an_adapter_of_another_base_is_not_served_and_the_reason_is_shown(server, versions):
    """A state directory that another model's server used before: its live version is none of ours."""
    state = StateDir(server.state)
    other = Registry(state, "sha256:" + "0" * 64)
    with other.stage() as staged:
        for file in next(iter(versions.values())).glob("adapter_*"):
            (staged / file.name).write_bytes(file.read_bytes())
        version = other.publish(staged, parent=None, settings={}, data_fingerprint="none", metrics={})
    assert server.post("/guard/v1/adapters/base/activate", {}).status_code == 200
    other.activate(version, actor="test", reason="another server's", force=True)
    problem = server.wait(lambda: server.get("/guard/v1/status").json()["problems"].get("adapters"))
    assert "another base" in problem and greedy(server)["guard"][0]["adapter"] == "base"
    assert server.post("/guard/v1/adapters/base/activate", {}).json() == {"live": None}
    server.wait(lambda: "adapters" not in server.get("/guard/v1/status").json()["problems"])


def test_a_corrupt_version_never_goes_live(server, versions, tmp_path):
    """Weights that were damaged after publication: refused in one sentence, what serves stays."""
    registry = Registry(StateDir(server.state), fingerprint(models.bundled()))
    version = registry.import_adapter(adapters.make(tmp_path / "lora", 3), base_dir=models.bundled(), max_rank=16)
    weights = registry.path(version) / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-10])
    before = server.get("/guard/v1/status").json()["adapter"]
    answer = server.post(f"/guard/v1/adapters/v{version}/activate?force=true", {})
    assert answer.status_code == 409 and "\n" not in answer.json()["error"]["message"]
    assert greedy(server)["guard"][0]["adapter"] == before


def test_a_live_json_of_a_newer_program_is_said_once_and_changes_nothing_that_serves(server, versions):
    """One state directory, or store, that a newer sirl-guard works with as well."""

    def failures() -> float:
        (line,) = [line for line in server.get("/metrics").text.splitlines() if line.startswith("sirl_swap_failures_total ")]
        return float(line.split()[1])

    name = next(iter(versions))
    assert server.post(f"/guard/v1/adapters/{name}/activate?force=true", {}).status_code == 200
    server.wait(lambda: greedy(server)["guard"][0]["adapter"] == name)
    path, before = server.state / "registry" / "live.json", failures()
    ours = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(ours) | {"format": 7, "version": None}))
        problem = server.wait(lambda: server.get("/guard/v1/status").json()["problems"].get("adapters"))
        assert "written by a newer sirl-guard (format 7" in problem and f"Until then {name} stays live" in problem
        assert greedy(server)["guard"][0]["adapter"] == name and failures() == before + 1
        answer = server.post("/guard/v1/adapters/base/activate", {})
        assert answer.status_code == 409 and "newer sirl-guard" in answer.json()["error"]["message"]
        assert json.loads(path.read_bytes())["format"] == 7, "nor is it written over"
    finally:
        path.write_bytes(ours)
    server.wait(lambda: "adapters" not in server.get("/guard/v1/status").json()["problems"])
    assert failures() == before + 1
