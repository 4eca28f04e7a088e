"""schemathesis on our own routes: whatever is asked of them is answered as /openapi.json says, and never with a 5xx."""

from __future__ import annotations

import re

import pytest

from online.state.directory import StateDir
from tests.interop.tools import run, venv

pytestmark = [pytest.mark.engine, pytest.mark.interop]
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method"
)


def test_our_routes_do_what_their_description_says(server, tmp_path):
    """Every route under /guard/v1/, administration included; only the base can be activated here, and it is live."""
    paths = server.get("/openapi.json").json()["paths"]
    routes = sum(len(methods) for path, methods in paths.items() if path.startswith("/guard/v1/"))
    asked = ["--include-path-regex", "^/guard/v1/", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing"]
    asked += ["--max-examples", "50", "--seed", "1", "--no-color", "--continue-on-failure"]
    with StateDir(server.state).lock("update"):  # so that an update asked for is refused, and none begins
        told = run(venv("schemathesis").with_name("st"), "run", f"{server.url}/openapi.json", *asked, home=tmp_path)
    tested = re.search(r"Tested: (\d+)", told)
    assert tested and int(tested[1]) == routes > 5, told
    assert server.get("/guard/v1/status").json()["problems"] == {}
