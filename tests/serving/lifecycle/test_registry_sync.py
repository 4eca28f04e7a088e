"""A learner elsewhere and a server here share a store; and the commands about versions, keys and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import models
from benchmarks.adapters import make
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.registry.sync import synchronise
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from tests.conftest import running
from tests.online.registry.test_signature import KEY, OTHER, pem, private_file, public
from tests.serving.command import sirl


@pytest.mark.engine
@pytest.mark.slow
def test_a_server_takes_up_what_a_learner_elsewhere_made_live(tmp_path: Path) -> None:
    """Signed, by a key of which the server has the public half; a store that is away changes nothing of what serves."""
    store, trusted = tmp_path / "mount" / "store", private_file(tmp_path / "trusted.pem", public(KEY))
    settings = RegistrySettings(url=f"file://{store}", signing_key=private_file(tmp_path / "key.pem", pem(KEY)))
    state = StateDir(tmp_path / "learner")
    learner = Registry(state, fingerprint(models.bundled()), settings)
    version = learner.import_adapter(make(tmp_path / "lora", 1), base_dir=models.bundled(), max_rank=16)
    learner.attach(version, "evaluation", {"decision": "promoted"})
    flags = [
        "--registry-url",
        f"file://{store}",
        "--registry-trusted-keys",
        str(trusted),
        "--registry-pull-interval-s",
        "0.1",
    ]
    with running(tmp_path / "server", *flags) as server:

        def serves(name: str) -> bool:
            return server.chat("Hello.", temperature=0)["guard"][0]["adapter"] == name

        assert serves("base")
        learner.activate(version, actor="test", reason="it was promoted")
        synchronise(state, learner)
        server.wait(lambda: serves("v1"))
        calibration = server.state / "registry/v1/calibration.json"
        calibration.write_text((models.bundled() / "calibration.json").read_text())

        def unsigned() -> bool:
            status = server.get("/guard/v1/status").json()
            return "is not signed" in status["problems"].get("calibration of v1", "") and not status["calibrated"]

        server.wait(unsigned)
        calibration.unlink()
        away = store.parent.rename(tmp_path / "away")
        store.parent.write_text("no directory any more")
        gone = "The store cannot be used (NotADirectoryError"
        server.wait(lambda: gone in server.get("/guard/v1/status").json()["problems"].get("store", ""))
        assert serves("v1")
        assert server.post("/guard/v1/adapters/base/activate", {}).json() == {"live": None}
        store.parent.unlink()
        away.rename(store.parent)
        server.wait(lambda: "store" not in server.get("/guard/v1/status").json()["problems"])
        server.wait(lambda: json.loads((store / "live.json").read_text())["version"] is None)
    synchronise(state, learner)
    assert learner.live() is None, "what the server activated is live everywhere"


def test_the_commands_about_keys_pins_and_what_is_kept(tmp_path: Path) -> None:
    made = make(tmp_path / "made", 1)
    key = private_file(tmp_path / "key.pem", pem(KEY))

    def run(*words: str) -> str:
        done = sirl("adapters", *words, "--state-dir", str(tmp_path / "state"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(*words: str) -> str:
        done = sirl("adapters", *words, "--state-dir", str(tmp_path / "state"))
        assert done.returncode == 1 and "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    for _ in range(3):
        run("import", str(made), "--no-gate")
    signing = ("--registry-signing-key", str(key))
    assert "is not signed" in fails("activate", "v1", "--force", *signing)
    assert "signed of v1: manifest.json" in run("sign", "v1", *signing)
    assert "nothing, for all of it was" in run("sign", "v1", *signing)
    run("activate", "v1", "--force", *signing)
    assert "v2 is pinned" in run("pin", "v2")
    assert "v2\tcandidate\t\tpinned" in run("list")
    assert run("gc", "--registry-keep", "0") == "the weights of v3 are deleted.\n"
    assert "v2 is not pinned" in run("unpin", "v2")
    assert run("gc") == "the weights of no version are deleted.\n", "ten are kept"
    assert "v3\tcollected" in run("list") and "were collected" in fails("activate", "v3", "--force")
    assert "there is no store" in fails("sync")
    assert "names no adapter" in fails("pin")
    url = ("--registry-url", f"file://{tmp_path}/store")
    assert "the same" in run("sync", *url) and (tmp_path / "store/v1/manifest.json.sig").exists()
    assert "is open to others" in fails("list", "--registry-signing-key", str(private_file(key, pem(KEY), 0o644)))


def test_doctor_looks_at_keys_and_store(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    Registry(state, fingerprint(models.bundled())).import_adapter(
        make(tmp_path / "made", 1), base_dir=models.bundled(), max_rank=16
    )

    def doctor(*words: str) -> dict[str, tuple[str, str]]:
        done = sirl("doctor", "--fast", "--json", "--state-dir", str(state.path), *words)
        return {found["subject"]: (found["level"], found["message"]) for found in json.loads(done.stdout)}

    assert "keys" not in doctor() and "store" not in doctor()
    trusted = private_file(tmp_path / "trusted.pem", public(OTHER, KEY))
    (tmp_path / "file").write_text("")
    found = doctor("--registry-trusted-keys", str(trusted), "--registry-url", f"file://{tmp_path}/file/below")
    assert found["registry"][0] == "error" and "`sirl adapters sign v1`" in found["registry"][1]
    assert found["store"][0] == "error" and "NotADirectoryError" in found["store"][1]
    assert found["keys"] == ("ok", "2 trusted; without registry.signing_key nothing is published here")
    key = private_file(tmp_path / "key.pem", pem(KEY))
    found = doctor("--registry-signing-key", str(key), "--registry-url", f"file://{tmp_path}/store")
    assert found["store"] == ("ok", "reachable, with 0 versions") and found["keys"][0] == "ok"
    found = doctor("--registry-signing-key", str(tmp_path / "none.pem"))
    assert found["registry"][0] == "error" and "cannot be read" in found["registry"][1]
