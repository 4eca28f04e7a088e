"""A process that dies at any step of a version's life, or whose disk fails there: the registry is sound after each.

Every call that changes a file or a directory is a step. The life is lived once for each, by a process that is killed
(SIGKILL) before that step, so that every write, rename and removal has a death before and after it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from guard.errors import SirlError
from online.registry.registry import Registry
from online.registry.release_stages import advance
from online.settings.groups import RegistrySettings, ReleaseSettings
from online.state.directory import StateDir
from online.updates.history import happened

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # workers have threads
BASE = "sha256:base"
SETTINGS = RegistrySettings(keep=0, keep_back=1)
STEPS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "fchmod", "ftruncate", "pwrite")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MOST = 1000
SOME = 7
"""Of so many steps one is tried where not every one is."""


def published(registry: Registry) -> int:
    """A version whose gate promoted it."""
    with registry.stage() as staged:
        for name in ("adapter_model.safetensors", "adapter_config.json", "ledger.json"):
            (staged / name).write_text("{}")
        version = registry.publish(staged, parent=None, settings={}, data_fingerprint="d", metrics={})
    registry.attach(version, "calibration", {"a": 1})
    registry.attach(version, "evaluation", {"decision": "promoted", "best": version})
    return version


def life(registry: Registry) -> None:
    """All that can become of versions."""
    stages, who = ReleaseSettings(), {"actor": "t", "reason": "r"}
    first = published(registry)
    for _ in range(3):
        advance(registry, stages, first, **who)
    second = published(registry)
    advance(registry, stages, second, **who)
    registry.release(None, **who)
    registry.attach(second, "calibration", {"a": 2})
    registry.activate(second, **who)
    registry.rollback(**who)
    registry.pin(second, actor="t")
    registry.unpin(second, actor="t")
    registry.destroy(second, **who)
    third = published(registry)
    registry.collect(actor="t")
    assert registry.folder(third).collected, "the settings of this test keep nothing that nobody needs"
    registry.sweep()


def disturbed(step: int, act: Callable[[], None]) -> Callable[[], int]:
    """From here on `act` happens in place of step number `step`; returns how many steps there were so far."""
    seen = 0

    def patched(name: str, call: Callable, *args, **kwargs):
        nonlocal seen
        if name != "open" or args[1] & WRITING:
            if seen == step:
                seen += 1
                act()
            seen += 1
        return call(*args, **kwargs)

    for name in STEPS:
        setattr(os, name, partial(patched, name, getattr(os, name)))
    return lambda: seen


def in_a_process(work: Callable[[], None]) -> int:
    """How a process of its own that does this work ends: its exit status, negative for a signal."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def of(state: Path) -> Registry:
    """The registry there, which signs where there is a key beside it."""
    key = state.parent / "key.pem"
    settings = SETTINGS.model_copy(update={"signing_key": key if key.exists() else None})
    return Registry(StateDir(state), BASE, settings)


def killed(state: Path, step: int) -> bool:
    """Live it and die at a step; False where it was over before."""

    def work() -> None:
        registry = of(state)
        disturbed(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
        life(registry)

    status = in_a_process(work)
    assert status in (0, -signal.SIGKILL), f"step {step} ended with {status}"
    return status != 0


def failed(state: Path, step: int, error: int) -> bool:
    """Live it and have one step fail; False where it was over before. What is said is a sentence."""

    def fail() -> None:
        raise OSError(error, os.strerror(error))

    def work() -> None:
        registry = of(state)
        steps = disturbed(step, fail)
        try:
            life(registry)
        except SirlError as said:
            assert str(said).endswith(".") and "\n" not in str(said)
            os._exit(2)
        os._exit(0 if steps() <= step else 3)  # 3: it did not matter

    status = in_a_process(work)
    assert status in (0, 2, 3), f"{os.strerror(error)} at step {step} ended with {status}"
    return status != 0


def check(state: Path, step: int) -> None:
    """What a server, `sirl doctor` and the next refresh find."""
    registry = of(state)
    for adapter in registry.versions():
        assert adapter.state != "damaged", f"step {step} left v{adapter.version} damaged"
        if adapter.state not in ("forgotten", "collected"):
            registry.verify(adapter.version)
    assert [finding for finding in happened(StateDir(state)) if finding.level == "error"] == []
    live, release = registry.live(), registry.releasing()
    assert live is None or registry.versions()[live - 1].decision == "promoted"
    assert release is None or (release.version != live and registry.versions()[release.version - 1].decision == "promoted")
    registry.sweep()
    latest = published(registry)
    registry.activate(latest, actor="t", reason="r")
    assert registry.live() == latest and registry.releasing() is None
    left = [path for path in registry.path(1).parent.rglob("*") if "staging" in path.name or path.suffix == ".tmp"]
    assert not left, f"step {step} left {left}"
    lines = registry._state.audit_path.read_text().splitlines()
    assert json.loads(lines[-1])["version"] == latest


def begun(tmp_path: Path, signed: bool) -> Path:
    """A state directory in which one version serves."""
    if signed:
        private = Ed25519PrivateKey.generate()
        (tmp_path / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (tmp_path / "key.pem").chmod(0o600)
    registry = of(tmp_path / "begun")
    registry.activate(published(registry), actor="t", reason="r")
    return tmp_path / "begun"


@pytest.mark.parametrize(
    ("how", "signed"),
    [(killed, False), (killed, True), (partial(failed, error=errno.ENOSPC), False)],
    ids=["killed", "killed while it signs", "disk full"],
)
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.nightly), SOME], ids=["every step", "some steps"])
def test_at_whatever_step_it_ends_the_registry_is_sound(
    tmp_path: Path, how: Callable[[Path, int], bool], signed: bool, every: int
) -> None:
    template = begun(tmp_path, signed)
    for step in range(0, MOST, every):
        shutil.copytree(template, state := tmp_path / "state")
        more = how(state, step)
        check(state, step)
        shutil.rmtree(state)
        if not more:
            break
    assert 100 < step < MOST, "the life has steps, and an end"
