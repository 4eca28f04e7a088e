"""Version folders: numbered once, prepared in private, put in place whole."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE, publish, write_adapter

SPAWN = multiprocessing.get_context("spawn")


def publish_many(path: str) -> list[int]:
    registry = Registry(StateDir(Path(path)), BASE)
    return [publish(registry) for _ in range(5)]


def test_numbers_are_never_reused(registry: Registry) -> None:
    for _ in range(3):
        publish(registry)
    shutil.rmtree(registry.path(3))
    assert publish(registry) == 4
    (registry.path(1).parent / "counter").write_bytes(b"torn\x00")
    assert publish(registry) == 5


def test_two_publishers_at_once(registry: Registry) -> None:
    state = str(registry.path(1).parent.parent)
    with SPAWN.Pool(2) as pool:
        numbers = [number for batch in pool.map(publish_many, [state, state], chunksize=1) for number in batch]
    assert sorted(numbers) == list(range(1, 11))
    for number in numbers:
        registry.verify(number)


def test_a_failed_stage_leaves_nothing(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"no adapter_model\.safetensors"), registry.stage() as staged:
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    with pytest.raises(RegistryError, match="cannot be part"), registry.stage() as staged:
        write_adapter(staged)
        (staged / "link").symlink_to("/etc/passwd")
        registry.publish(staged, parent=None, settings={}, data_fingerprint="", metrics={})
    assert registry.versions() == [] and not list(registry.path(1).parent.glob(".staging-*"))


def test_sweep_removes_what_the_dead_left(registry: Registry) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from online.registry.registry import Registry; from online.state.directory import StateDir\n"
        "from tests.online.registry.adapters import BASE, write_adapter\n"
        "with Registry(StateDir(Path(sys.argv[1])), BASE).stage() as staged:\n"
        "    write_adapter(staged); os.kill(os.getpid(), signal.SIGKILL)"
    )
    state = registry.path(1).parent.parent
    assert subprocess.run([sys.executable, "-c", code, str(state)], check=False).returncode == -9
    with registry.stage() as mine:
        assert registry.sweep() == 1 and mine.is_dir()
    assert registry.versions() == []
