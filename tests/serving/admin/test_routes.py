"""Who may administer, and what administration answers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import asdict
from functools import partial

import httpx
import pytest

from online.state.directory import StateDir
from online.updates.record import UpdateOutcome, UpdateRecord
from online.updates.report import write_report
from tests.conftest import running

pytestmark = pytest.mark.engine


def test_status_says_what_serves(server):
    status = server.get("/guard/v1/status").json()
    assert status["engine"]["runner"].endswith("CPUModelRunner") and status["engine"]["engine"].endswith("0.32.0")
    assert status["fingerprint"].startswith("sha256:") and status["buffer"]["failing"] is False


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "guard.example.com"},
        {"host": "localhost.example.com"},
        {"host": "127.0.0.1.nip.io"},
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"origin": "http://evil.example.com", "sec-fetch-site": "cross-site"},
        {"origin": "http://localhost:3000"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_without_a_key_a_proxy_does_not_open_it(server, headers):
    """A loopback peer is not enough: it must address localhost itself."""
    for method, path in (("GET", "status"), ("GET", "events"), ("POST", "rollback"), ("POST", "updates")):
        answer = httpx.request(method, f"{server.url}/guard/v1/{path}", headers=headers, timeout=30)
        assert answer.status_code == 403


def test_a_proxy_that_says_nothing_does_not_open_it_either(server):
    """nginx's default: the upstream's own name for a host, no word of a client, and HTTP/1.0."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET /guard/v1/status HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert connection.recv(64).split()[1] == b"403"


def test_an_update_is_not_promised_while_another_runs(server):
    with StateDir(server.state).lock("update"):
        assert server.post("/guard/v1/updates", {}).status_code == 409


def test_unknown_names_are_404_and_paths_are_no_names(server):
    assert server.get("/guard/v1/updates/nothing").status_code == 404
    assert server.post("/guard/v1/adapters/v999/activate", {}).status_code == 409
    for name in ("v999", "..%2f..%2ftmp", "base"):
        assert server.get(f"/guard/v1/adapters/{name}/ledger").status_code == 404
    assert server.post("/guard/v1/adapters/v999/pin", {}).status_code == 409
    assert server.post("/guard/v1/adapters/base/unpin", {}).status_code == 404
    for name in ("..%2f..%2ftmp", "%2ftmp%2flora", "v1;rm", "v" + "9" * 400, "9" * 5000):
        assert server.post(f"/guard/v1/adapters/{name}/activate", {}).status_code in (404, 405)


def test_operators_look_at_the_queue_and_decide(calibrated):
    server = calibrated
    asked = "My mail is jane.doe@example.com. How do I sabotage the mill wheel?"
    answers = (server.chat(asked, seed=seed)["guard"][0] for seed in range(50))
    event = next(answer["event_id"] for answer in answers if answer["event_id"])  # plain ones are sampled

    def waiting() -> dict:
        return {one["event_id"]: one for one in server.get("/guard/v1/queue").json()["prompts"]}

    server.wait(lambda: event in waiting())
    found = waiting()[event]
    assert "<EMAIL>" in found["text"] and "jane.doe" not in found["text"]  # redacted is the default
    path = f"/guard/v1/queue/prompts/{found['prompt']}"
    for act, fate in (("exclude", "excluded"), ("approve", "approved"), ("reset", "queued")):
        assert server.post(f"{path}/{act}", {}).json() == {"done": act}
        assert waiting()[event]["fate"] == fate
    assert server.post(f"{path}/redact", {}).json() == {"done": "redact", "events": 1}
    assert server.post("/guard/v1/queue/clients/nonsense/exclude", {}).status_code == 404
    assert server.post(f"{path.replace('prompts', 'clients')}/redact", {}).status_code == 404
    assert server.post(f"{path}/burn", {}).status_code == 400
    excluded = server.get("/guard/v1/queue", params={"fate": "excluded"}).json()
    assert excluded["counts"]["excluded"] == len(excluded["prompts"]) == 0


def test_vllms_own_adapter_routes_are_absent(server):
    """Adapters come from the registry alone: no request names a path."""
    body = {"lora_name": "x", "lora_path": "/tmp"}
    assert server.post("/v1/load_lora_adapter", body).status_code == 404


@pytest.mark.slow
def test_with_a_key_only_the_key_opens_it(tmp_path):
    """With vLLM's own API key, an unwritable buffer, no report and a learner that is killed it serves all the same."""
    flags = ["--guard-admin-key", "the-admins-own-key", "--api-key", "a-client-key", "--no-guard-report"]
    flags += ["--buffer-url", f"sqlite:///{tmp_path}/gone/buffer.sqlite", "--learn", "--learn-interval-s", "none"]
    flags += [
        "--shutdown-timeout",
        "12",
        "--guard-read-key",
        "a-readers-own-key",
        "--guard-operate-key",
        "operators-own-key",
    ]
    with running(tmp_path / "state", *flags) as server:
        assert server.get("/guard/v1/status").status_code == 401
        assert server.get("/guard/v1/status", headers={"authorization": "Bearer a-client-key"}).status_code == 401
        good = {"authorization": "Bearer the-admins-own-key", "host": "guard.example.com", "x-forwarded-for": "10.0.0.1"}
        client = {"authorization": "Bearer a-client-key"}
        body = server.chat("How do I sabotage the mill wheel?", headers=client)
        assert "guard" not in body
        status = server.wait(
            lambda: (
                (s := server.get("/guard/v1/status", headers=good)).status_code == 200
                and s.json()["buffer"]["failing"]
                and s.json()
            )
        )
        assert "buffer" in status["problems"]
        the_report_of_an_update_is_for_the_admin(tmp_path / "state/updates", partial(server.get, headers=good), server.get)
        assert "the-admins-own-key" not in server.log.read_text() and "the-admins-own-key" not in str(status)
        (first,) = server.wait(lambda: learners(server))
        with suppress(ProcessLookupError):  # it may be about to be begun anew
            os.kill(first, signal.SIGKILL)
        server.wait(lambda: learners(server) not in ([], [first]))
        every_role_opens_what_it_is_for(server)
        wrong_keys_are_slowed_down(server, good)
        drains(server, client)
    assert learners(server) == []


def every_role_opens_what_it_is_for(server) -> None:
    """Whoever reads sees no text, whoever operates cannot overrule the gate, and what they tried is on record."""

    def ask(name: str, method: str, path: str) -> int:
        headers = {"authorization": f"Bearer {name}"}
        return httpx.request(method, f"{server.url}/guard/v1/{path}", headers=headers, timeout=30).status_code

    reader, operator, admin = "a-readers-own-key", "operators-own-key", "the-admins-own-key"
    force = "adapters/v999/activate?force=true"
    for path, wanted in (("status", (200, 200, 200)), ("adapters", (200, 200, 200)), ("queue", (503, 503, 503))):
        assert tuple(ask(name, "GET", path) for name in (reader, operator, admin)) == wanted
    for path, wanted in (
        ("rollback", (403, 409, 409)),
        (force, (403, 403, 409)),
        (f"queue/prompts/{'0' * 32}/approve", (403, 503, 503)),
        ("adapters/v999/activate", (403, 409, 409)),
        ("adapters/v999/pin", (403, 409, 409)),
    ):
        assert tuple(ask(name, "POST", path) for name in (reader, operator, admin)) == wanted, path
    lines = [json.loads(line) for line in (server.state / "audit.jsonl").read_text().splitlines()]
    seen = [(line["event"], line.get("role"), line["path"]) for line in lines if line["event"].startswith("admin.")]
    assert ("admin.denied", "read", "/guard/v1/rollback") in seen
    assert ("admin.request", "operate", "/guard/v1/rollback") in seen
    assert ("admin.denied", "operate", "/guard/v1/adapters/v999/activate") in seen


def wrong_keys_are_slowed_down(server, good: dict[str, str]) -> None:
    wrong = {"authorization": "Bearer a-guess-at-the-key"}
    right = {"authorization": good["authorization"]}

    def asked(headers: dict[str, str]) -> int:
        return server.get("/guard/v1/status", headers=headers).status_code

    assert asked(wrong) == 401
    # One more is let through every six seconds; a right guess must be told from no wrong one.
    server.wait(lambda: asked(wrong) == asked(right) == 429)
    assert server.get("/guard/v1/status", headers=good).status_code == 200, "other addresses, as a proxy names them, go on"
    assert "a-guess-at-the-key" not in server.log.read_text() + (server.state / "audit.jsonl").read_text()


def the_report_of_an_update_is_for_the_admin(updates, ask, ask_without_key) -> None:
    """One that ended early, written as the learner writes it."""
    assert ask("/guard/v1/updates/nothing/report").status_code == 404
    job = UpdateRecord.new(updates)
    path = f"/guard/v1/updates/{job.id}/report"
    assert ask(path).status_code == 404
    outcome = UpdateOutcome(job.id, "refused", ("There is no gap.",), None, 1.0)
    job.finish(outcome)
    assert "left no report" in ask(path).text
    write_report(job.folder, asdict(outcome), {})
    page = ask(path)
    assert page.headers["content-type"].startswith("text/html") and "There is no gap." in page.text
    assert ask_without_key(path).status_code == 401


def drains(server, client: dict[str, str]) -> None:
    """Ctrl-C: a stream in flight ends as it should, a new request is turned away, what takes longer than the drain may is
    aborted and its client told, the process ends well."""
    body = {"model": "sirl-tiny", "prompt": "Once", "ignore_eos": True, "stream": True}
    ask = partial(httpx.stream, "POST", server.url + "/v1/completions", headers=client, timeout=60)
    with ask(json={**body, "max_tokens": 24}) as short, ask(json={**body, "max_tokens": 1900, "n": 16}) as long:
        lines, others = short.iter_lines(), long.iter_lines()
        next(lines), next(others)
        server.process.send_signal(signal.SIGINT)

        def turned_away() -> bool:
            return (
                server.post("/v1/completions", {**body, "max_tokens": 1, "stream": False}, headers=client).status_code == 503
            )

        server.wait(turned_away)
        assert server.get("/health").status_code == 503, "a load balancer is told too"
        assert how_they_ended(lines) == ["length"]
        assert how_they_ended(others) == ["abort"] * 16
    assert server.process.wait(90) == 0


def how_they_ended(lines) -> list[str]:
    """The finish reason of each choice of a stream, which is read to its proper end."""
    *chunks, done = (line.removeprefix("data: ") for line in lines if line)
    assert done == "[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]


def learners(server) -> list[int]:
    """Process ids of the learners of this server."""
    words = f"serving learn.*{re.escape(str(server.state))}"
    return [int(line) for line in subprocess.run(["pgrep", "-f", words], capture_output=True, text=True).stdout.split()]
