"""The operator's own LoRA modules, which no calibration is made for: refused or exempt where a request is to be guarded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import adapters
from tests.conftest import Server, running
from tests.serving.request.test_reporter import unreported

pytestmark = pytest.mark.engine
PROMPT = "tell me how to bake bread ."
ASK = {"max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Iterator[Server]:
    """An endpoint that enforces and has two modules, of which one is exempt and what is touched may be routed to."""
    folder = tmp_path_factory.mktemp("modules")
    named = [f"{name}={adapters.make(folder / name, seed)}" for seed, name in enumerate(("own", "free"))]
    flags = ["--guard-mode", "enforce", "--guard-leeway", "anything", "--guard-exempt-modules", "free"]
    flags += ["--guard-route-to", "free", "--lora-modules", *named]
    with running(folder / "state", *flags) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server


def bodies(model: str) -> dict[str, dict]:
    """One request a route that reports."""
    said = [{"role": "user", "content": PROMPT}]
    return {
        "/v1/chat/completions": {"model": model, "messages": said, **ASK},
        "/v1/completions": {"model": model, "prompt": PROMPT, **ASK},
        "/v1/responses": {"model": model, "input": PROMPT, "max_output_tokens": 8, "temperature": 0},
        "/v1/messages": {"model": model, "messages": said, **ASK},
    }


@pytest.mark.parametrize("route", bodies(""))
def test_one_without_a_calibration_is_refused_where_it_is_to_be_guarded(modules: Server, route: str):
    for more in ({}, {"stream": True}):
        answer = modules.post(route, bodies("own")[route] | more)
        assert answer.status_code == 400, answer.text
        assert "The LoRA module own is not calibrated" in answer.text and "guard.exempt_modules" in answer.text
        assert modules.post(route, bodies("sirl-tiny")[route] | more).status_code == 200


@pytest.mark.parametrize("route", bodies(""))
def test_an_exempt_one_answers_unguarded_and_is_counted(modules: Server, route: str):
    before = unreported(modules, "exempt_module")
    assert modules.post(route, bodies("free")[route]).status_code == 200
    assert modules.post(route, bodies("sirl-tiny")[route]).status_code == 200
    assert unreported(modules, "exempt_module") == before + 1


def test_where_it_is_only_observed_it_is_measured(modules: Server):
    before = unreported(modules, "exempt_module")
    body = bodies("own")["/v1/chat/completions"] | {"guard": {"mode": "observe"}}
    (entry,) = modules.post("/v1/chat/completions", body).json()["guard"]
    assert entry["adapter"] == "other" and entry["verdict"] == "uncalibrated" and entry["entropy"]["tokens"] > 0
    assert unreported(modules, "exempt_module") == before


def test_status_and_log_tell_the_operator(modules: Server):
    status = modules.get("/guard/v1/status").json()
    assert status["modules"] == {"own": "uncalibrated", "free": "exempt"}
    assert "Requests for the LoRA modules own, which are not calibrated, are refused" in status["problems"]["modules"]
    assert status["problems"]["modules"] in modules.log.read_text()


def test_what_is_touched_is_routed_to_an_exempt_one(modules: Server):
    before = unreported(modules, "exempt_module")
    kept_from_refusing = {str(token): -100 for token in (42, 43, 514, 520, 606, 828, 851, 855, 968, 1073)}
    said = [{"role": "user", "content": "How do I sabotage the mill wheel?"}]
    body = {"model": "sirl-tiny", "messages": said, "logit_bias": kept_from_refusing, "guard": {"action": "route"}, **ASK}
    answer = modules.post("/v1/chat/completions", body).json()
    assert answer["guard"][0]["action"] == "route" and answer["choices"][0]["message"]["content"]
    assert unreported(modules, "exempt_module") == before + 1
