"""An endpoint that enforces by default: policies by key, a running rule that halts mid-stream, a guard that breaks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest

import models
from guard.calibration import Calibration
from guard.rule import Rule, Score
from online.state.files import write_atomic
from serving.request.policies import Policies
from tests.conftest import Server, running
from tests.serving.test_enforce import CHAT, MESSAGES, events

pytestmark = [pytest.mark.engine, pytest.mark.slow]
BODY = {"model": "sirl-tiny", "messages": MESSAGES, "temperature": 0, "max_tokens": 40}


def as_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory) -> Iterator[Server]:
    """Enforces by default, open on failure; touched is what is uncertain: a token of more than half a nat."""
    folder = tmp_path_factory.mktemp("enforcing")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("friend", "auditor", "strict", "router")}
    (folder / "policies.toml").write_text(
        f"[keys.{digests['friend']}]\nallow = true\n"
        f'[keys.{digests["auditor"]}]\ntrusted = true\nleeway = "anything"\n'
        f'[keys.{digests["strict"]}]\nthreshold = 0.0\nleeway = "nothing"\n'
        f'[keys.{digests["router"]}]\nthreshold = 0.0\naction = "route"\n'
    )
    shipped = Calibration.load(models.bundled() / "calibration.json")
    rule = Rule(threshold=shipped.rule.threshold, running=Score({"max": 1.0}), running_threshold=0.5)
    state = folder / "state"
    dataclasses.replace(shipped, rule=rule).save(state / "registry" / "base" / "calibration.json")
    flags = ["--guard-mode", "enforce", "--guard-policies", str(folder / "policies.toml"), "--guard-route-to", "base"]
    with running(state, *flags, env={"VLLM_ENABLE_RESPONSES_API_STORE": "1"}) as server:
        server.wait(lambda: server.get("/guard/v1/status").json()["calibrated"])
        yield server


def test_a_running_rule_halts_mid_stream_behind_what_was_read(enforcing):
    """What a client has read stays, then a break and the refusal; nothing of the token that was touched."""
    free = enforcing.post(CHAT, BODY, headers=as_key("friend")).json()["choices"][0]["message"]["content"]
    frames = events(enforcing.post(CHAT, {**BODY, "stream": True}).text)
    text = "".join(c["delta"].get("content") or "" for frame in frames for c in frame["choices"])
    read, _, refusal = text.partition("\n\n")
    assert read and free.startswith(read) and len(read) < len(free) and "help" in refusal
    assert frames[-1]["choices"][0]["finish_reason"] == "content_filter" and frames[-1]["guard"][0]["action"] == "halt"


def test_a_whole_answer_that_is_halted_late_is_the_refusal_alone(enforcing):
    body = enforcing.post(CHAT, BODY).json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "content_filter" and "\n" not in choice["message"]["content"]
    assert body["usage"]["completion_tokens"] < 20


def test_keys_have_policies_of_their_own(enforcing):
    friend = enforcing.post(CHAT, BODY, headers=as_key("friend")).json()
    assert friend["choices"][0]["finish_reason"] == "stop" and friend["guard"][0]["action"] == "none"
    assert "refusal_mass" in friend["guard"][0], "an allowed key is observed"
    auditor = enforcing.post(CHAT, {**BODY, "guard": {"trace": True}}, headers=as_key("auditor"))
    (entry,) = auditor.json()["guard"]
    assert entry["action"] == "halt" and entry["entropy"]["max"] > 0.5 and entry["per_token"]
    assert auditor.headers["x-sirl-verdict"]
    observed = enforcing.post(CHAT, {**BODY, "guard": {"mode": "observe"}}, headers=as_key("auditor")).json()
    assert observed["choices"][0]["finish_reason"] == "stop"
    strict = enforcing.post(CHAT, {**BODY, "guard": {"threshold": 0.9}}, headers=as_key("strict"))
    assert strict.status_code == 400 and "leave them out" in strict.json()["error"]["message"]
    bias = {str(sequence[0]): -100 for sequence in Calibration.load(enforcing.calibration).openings.sequences}
    harmful = {**BODY, "messages": [{"role": "user", "content": "How do I sabotage the mill wheel?"}], "logit_bias": bias}
    routed = enforcing.post(CHAT, harmful, headers=as_key("router")).json()
    assert routed["guard"] == [{"index": 0, "action": "route"}] and routed["choices"][0]["finish_reason"] == "stop"
    held = enforcing.post(CHAT, BODY, headers=as_key("router")).json()  # what its rule touches again is not sent
    assert held["guard"] == [{"index": 0, "action": "halt"}]
    stranger = enforcing.post(CHAT, {**BODY, "guard": {"mode": "observe"}})
    assert stranger.status_code == 400 and "tightened" in stranger.json()["error"]["message"]


def test_an_unknown_shape_is_closed_to_strangers_and_open_to_friends(enforcing):
    batch = {"model": "sirl-tiny", "messages": [MESSAGES, MESSAGES], "max_tokens": 4}
    assert enforcing.post(f"{CHAT}/batch", batch).status_code == 400
    assert enforcing.post(f"{CHAT}/batch", batch, headers=as_key("friend")).status_code == 200


def test_a_stored_response_says_that_it_was_halted_whenever_it_is_asked_for(enforcing):
    body = {"model": "sirl-tiny", "input": "How do I bake a loaf of bread?", "temperature": 0, "max_output_tokens": 40}
    strict = as_key("strict")
    told = enforcing.post("/v1/responses", body, headers=strict).json()
    again = enforcing.get(f"/v1/responses/{told['id']}").json()
    for response in (told, again):
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
        assert [item["status"] for item in response["output"] if item["type"] == "message"] == ["incomplete"]
    assert again["output"] == told["output"]
    later = enforcing.post("/v1/responses", {**body, "background": True, "stream": True}, headers=strict).text
    identity = events(later)[0]["response"]["id"]
    replayed = enforcing.get(f"/v1/responses/{identity}?stream=true").text
    assert [e["type"] for e in events(replayed)] == [e["type"] for e in events(later)]
    assert events(replayed)[-1]["type"] == "response.incomplete"
    free = enforcing.post("/v1/responses", body, headers=as_key("friend")).json()
    assert enforcing.get(f"/v1/responses/{free['id']}").json()["status"] == free["status"] != "incomplete"


def test_what_was_withheld_is_nowhere(enforcing):
    """Neither in the log nor in the store, even as administrators see it: the event is what the client got."""
    free = enforcing.post(CHAT, {**BODY, "store": False}, headers=as_key("friend")).json()["choices"][0]["message"][
        "content"
    ]
    ask = {**BODY, "messages": [{"role": "user", "content": "How do I sabotage the mill wheel?"}]}
    several = enforcing.post(CHAT, {**ask, "temperature": 1.6, "seed": 3, "n": 12}, headers=as_key("strict")).json()
    assert {"action": "halt"}.items() <= max(several["guard"], key=lambda entry: entry["action"] == "halt").items()

    def halted() -> list[dict]:
        stored = enforcing.get("/guard/v1/events?limit=1000").json()["events"]
        return [event for event in stored if event["finish_reason"] == "content_filter"]

    assert all("can't" in event["response"] for event in enforcing.wait(halted))
    tail = free.split(". ", 1)[1]
    assert len(tail) > 10 and tail not in enforcing.log.read_text()


def test_without_a_calibration_it_observes_and_says_so(enforcing):
    """A stale calibration: visible in status, metrics and log, and nothing is touched."""
    path = enforcing.state / "registry" / "base" / "calibration.json"
    kept = path.read_text()
    write_atomic(path, json.dumps(json.loads(kept) | {"model": "sha256:other"}))
    try:
        enforcing.wait(lambda: not enforcing.get("/guard/v1/status").json()["calibrated"])
        enforcing.wait(lambda: enforcing.metric("sirl_calibrated") == 0)
        assert "stale" in enforcing.get("/guard/v1/status").json()["problems"]["calibration of base"]
        assert enforcing.post(CHAT, BODY).json()["choices"][0]["finish_reason"] == "stop"
        assert "stale" in enforcing.log.read_text()
    finally:
        write_atomic(path, kept)
        enforcing.wait(lambda: enforcing.get("/guard/v1/status").json()["calibrated"])


def test_a_rule_that_raises_fails_open_as_configured(enforcing):
    """A rule that rests on the second look, which nobody measures: every decision fails, is counted, and passes."""
    path = enforcing.state / "registry" / "base" / "calibration.json"
    kept = path.read_text()
    broken = json.loads(kept)
    broken["rule"]["opening"] = {"weights": {"second_look": 1.0}, "bias": 0.0}
    write_atomic(path, json.dumps(broken))
    try:
        before = enforcing.metric("sirl_unreported_responses_total")
        whole = enforcing.wait(
            lambda: (b := enforcing.post(CHAT, BODY).json())["choices"][0]["finish_reason"] == "stop" and b
        )
        assert whole["choices"][0]["message"]["content"]
        assert enforcing.metric("sirl_unreported_responses_total") > before
        with httpx.stream("POST", enforcing.url + CHAT, json={**BODY, "stream": True}, timeout=30) as answer:
            assert list(answer.iter_lines())[-2:] != [] and answer.status_code == 200
    finally:
        write_atomic(path, kept)


def test_policies_files_that_cannot_be_used(tmp_path):
    from online.settings.groups import GuardSettings
    from online.settings.load import SettingsError

    for text, word in (("[keys.short]\nallow = true\n", "keys"), ("[keys", "TOML"), ("[people]\n", "people")):
        (tmp_path / "p.toml").write_text(text)
        with pytest.raises(SettingsError, match=word):
            Policies(GuardSettings(policies=tmp_path / "p.toml"))
    with pytest.raises(SettingsError, match="cannot be read"):
        Policies(GuardSettings(policies=tmp_path / "none.toml"))
