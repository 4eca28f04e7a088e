"""Sets by name: from an address, and from the hub by `datasets`, which is not always there."""

import http.server
import json
import sys
import threading
import types
from dataclasses import replace

import pytest

from evaluation.suite import SuiteError
from evaluation.suites import SETS, load
from tests.evaluation.suites.test_rows import ROWS


@pytest.fixture
def site(tmp_path):
    """The address of a folder that is served on 127.0.0.1."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **known):
            super().__init__(*args, directory=str(tmp_path), **known)

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def library(monkeypatch):
    """A stand-in for `datasets` that tells what it was asked for; `raises` makes it fail."""
    asked = types.SimpleNamespace(calls=[], raises=None)

    def load_dataset(hub, config=None, split=None):
        asked.calls.append((hub, config, split))
        if asked.raises:
            raise asked.raises
        name = next(name for name, public in SETS.items() if public.hub == hub and public.split == split)
        return [{**ROWS[name], "problem": f"Q {config}"}]

    package, exceptions = types.ModuleType("datasets"), types.ModuleType("datasets.exceptions")
    exceptions.DatasetsError = type("DatasetsError", (Exception,), {})
    package.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    asked.error = exceptions.DatasetsError
    return asked


def test_a_set_at_an_address(tmp_path, site, monkeypatch):
    (tmp_path / "set.csv").write_text("category,source,forbidden_prompt\nc,s,Do x\n")
    monkeypatch.setitem(SETS, "strongreject", replace(SETS["strongreject"], address=f"{site}/set.csv"))
    (prompt,) = load("strongreject")
    assert (prompt.id, prompt.text, prompt.kind) == ("strongreject-1", "Do x", "harmful")
    monkeypatch.setitem(SETS, "strongreject", replace(SETS["strongreject"], address=f"{site}/gone.csv"))
    with pytest.raises(SuiteError, match=r"gone.csv .HTTPStatusError.: check .* as strongreject=FILE"):
        load("strongreject")


def test_nobody_at_the_address(site, monkeypatch):
    monkeypatch.setitem(SETS, "xstest", replace(SETS["xstest"], address="http://127.0.0.1:9/x.csv"))
    with pytest.raises(SuiteError, match=r".ConnectError.: check the network and the set's terms at https://"):
        load("xstest")


def test_a_set_on_the_hub(library):
    (prompt,) = load("gsm8k")
    assert prompt.answer == "1,007" and library.calls == [("openai/gsm8k", "main", "test")]


def test_all_configs_of_a_set_are_read(library):
    assert len(load("math")) == 7
    assert {config for _, config, _ in library.calls} == set(SETS["math"].configs)


@pytest.mark.parametrize("error", [ConnectionError("x"), ValueError("x"), RuntimeError("scripts"), None])
def test_a_hub_that_cannot_be_reached(library, error):
    library.raises = error or library.error("x")
    with pytest.raises(SuiteError, match="'gsm8k' could not be fetched from openai/gsm8k .*: check the network"):
        load("gsm8k")


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        SuiteError, match=r"not installed: pip install 'sirl-guard\[eval\]', or give a local copy as ifeval="
    ):
        load("ifeval")


def test_the_library_itself(tmp_path, monkeypatch):
    """The real one, where it is installed, reads a folder as it reads the hub."""
    pytest.importorskip("datasets")
    (tmp_path / "test.jsonl").write_text(json.dumps(ROWS["gsm8k"]) + "\n")
    monkeypatch.setitem(SETS, "gsm8k", replace(SETS["gsm8k"], hub=str(tmp_path), configs=(None,)))
    assert load("gsm8k")[0].answer == "1,007"
