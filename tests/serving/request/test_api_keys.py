"""Who gets in: vLLM's own application and all its routes with our middleware in it, without an engine behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.routing import Mount
from starlette.testclient import TestClient

from online.settings.groups import GuardSettings
from serving.app import install
from serving.request.api_keys import PUBLIC, PUBLIC_BELOW, KeyMiddleware, bearer
from tests.serving.offline import offline

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported
KEY, OTHER = "a-client-key", "another-clients-key"
PAGE = {"origin": "https://page.example.com"}


@pytest.fixture(scope="module")
def application(tmp_path_factory) -> Iterator:
    """vLLM's application as `sirl serve` puts it together, below a root path, for two keys."""
    from vllm.entrypoints.launchers.app import build_app

    from serving.engine.arguments import parser
    from serving.engine.keys import take_keys

    folder = tmp_path_factory.mktemp("keys")
    flags = ["--api-key", KEY, OTHER, "--root-path", "/llm", "--allowed-origins", json.dumps([PAGE["origin"]])]
    args = parser().parse_args(["model", *flags])
    app = build_app(args, ("generate",), None)
    guard = GuardSettings(admin_key="the-admins-own-key", max_body_mib=1)
    with offline(folder, guard=guard) as service:
        app.state.draining = False
        install(app, service, {}, lambda: app.state.draining, keys=take_keys(app, args))
        yield app


@pytest.fixture
def client(application) -> TestClient:
    return TestClient(application, raise_server_exceptions=False, follow_redirects=False)


def routed(app) -> list[tuple[str, str]]:
    """Every method and path that the application answers to, with something in place of a path's parameters."""
    found = []
    for route in app.routes:
        if isinstance(route, Mount):
            continue
        path = route.path.replace("{response_id}", "resp_1").replace("{", "").replace("}", "")
        found += [(method, path) for method in route.methods]
    return found


def as_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_every_route_but_a_few_looks_needs_a_key(application, client):
    """Also below the root path, and with a key that is nobody's."""
    asked = routed(application)
    assert {("POST", "/invocations"), ("POST", "/v1/chat/completions"), ("POST", "/generative_scoring")} <= set(asked)
    for method, path in asked:
        for where in (path, f"/llm{path}"):
            for headers in ({}, as_key("made-up"), {"x-api-key": "made-up"}, {"authorization": f"Basic {KEY}"}):
                status = client.request(method, where, headers=headers).status_code
                if path.startswith("/guard/"):
                    assert status in (401, 403, 429), (method, where)
                elif method in ("GET", "HEAD") and (path in PUBLIC or path in PUBLIC_BELOW):
                    assert status != 401, (method, where)
                else:
                    assert status == 401, (method, where, headers)


@pytest.mark.parametrize(
    "path",
    ["/invocations/", "//invocations", "/INVOCATIONS", "/%69nvocations", "/invocations%0A", "/health/../invocations",
     "/health%0A", "/llm/llm/invocations", "/llm//v1/completions", "/guard", "/guardv1/x", "/metrics", "/v1/models;x"],
)  # fmt: skip
def test_a_path_that_is_written_oddly_opens_nothing(client, path):
    assert client.post(path, json={"prompt": "x"}).status_code == 401


def test_either_header_and_any_case_opens_it(client):
    """What goes on is refused for another reason: there is no engine here."""
    ways = [as_key(KEY), as_key(OTHER), {"authorization": f"bearer  {KEY}"}, {"authorization": f"BEARER {OTHER}"}]
    ways += [{"x-api-key": KEY}, {"x-api-key": KEY, "authorization": "Bearer none"}]
    for headers in ways:
        for path in ("/v1/messages", "/llm/v1/messages", "/invocations", "/llm/v1/chat/completions"):
            assert client.post(path, json={"guard": {"nonsense": 1}}, headers=headers).status_code == 400, (path, headers)


def test_a_page_of_another_origin_can_read_every_refusal(client, application):
    """CORS headers on ours as on vLLM's, and each is one sentence in OpenAI's shape."""
    known = as_key(KEY) | PAGE
    chat = "/llm/v1/chat/completions"
    refusals = [
        (401, client.post(chat, json={}, headers=PAGE)),
        (400, client.post(chat, json={"guard": {"nonsense": 1}}, headers=known)),
        (413, client.post(chat, content=b" " * (1 << 20) + b"{}", headers=known)),
    ]
    application.state.draining = True
    refusals.append((503, client.post(chat, json={}, headers=known)))
    application.state.draining = False
    for status, answer in refusals:
        assert answer.status_code == status and answer.headers["access-control-allow-origin"] == PAGE["origin"]
        error = answer.json()["error"]
        assert error["code"] == status and error["message"].endswith(".")
    assert refusals[0][1].headers["www-authenticate"] == "Bearer" and refusals[3][1].headers["retry-after"]
    asks_first = PAGE | {"access-control-request-method": "POST"}
    assert client.options(chat, headers=asks_first).status_code == 200, "a browser asks without a key whether it may"


def test_administration_takes_its_key_in_any_case_and_small_bodies(application):
    client = TestClient(application, client=("10.0.0.2", 1))  # others guessed from where the one above is
    for scheme in ("Bearer", "bearer", "BEARER"):
        asked = client.get("/guard/v1/adapters", headers={"authorization": f"{scheme} the-admins-own-key"})
        assert asked.status_code == 409, "let in; there is no registry here"
    assert client.get("/guard/v1/adapters", headers=as_key(KEY)).status_code == 401
    large = b'{"prompts": "' + b"x" * (64 << 10) + b'"}'
    for path in ("/guard/v1/rollouts", "/llm/guard/v1/rollback"):
        answer = client.post(path, content=large, headers=as_key("the-admins-own-key"))
        assert answer.status_code == 413 and "64 KiB" in answer.json()["error"]["message"]


def test_nothing_is_read_of_whoever_has_no_key():
    """Neither body nor claims; of a WebSocket neither."""

    async def asked(kind: str, headers: list) -> tuple[list, list]:
        sent: list = []
        inside: list = []

        async def app(scope, receive, send):
            inside.append(scope["sirl.key"])

        async def receive():
            raise AssertionError("it was read")

        async def send(message):
            sent.append(message)

        scope = {"type": kind, "method": "POST", "path": "/v1/realtime", "headers": headers}
        await KeyMiddleware(app, keys=(KEY,))(scope, receive, send)
        return inside, sent

    for kind, prefix in (("http", ""), ("websocket", "websocket.")):
        inside, sent = asyncio.run(asked(kind, [(b"content-length", b"9" * 30)]))
        assert not inside and sent[0]["type"] == f"{prefix}http.response.start" and sent[0]["status"] == 401
        assert "API key" in json.loads(sent[1]["body"])["error"]["message"]
        both = [(b"authorization", b"Bearer made-up"), (b"x-api-key", KEY.encode())]
        assert asyncio.run(asked(kind, both)) == ([KEY.encode()], []), "who is known is who had the right key"


@pytest.mark.parametrize(
    ("header", "key"), [(b"Bearer k", b"k"), (b" bearer  k ", b"k"), (b"k", b"k"), (b"Basic k", b"Basic k")]
)
def test_the_key_in_a_header(header, key):
    assert bearer(header) == key
