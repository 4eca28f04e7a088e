"""A store that fails when it is told to, and installations that share it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from online.registry.registry import Registry
from online.registry.sync import RegistrySync
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE, publish


class Frail(MemoryFileSystem):
    """Memory of its own that goes wrong at its n-th operation: `dies` half-way and for good, or `cuts` off half, unsaid."""

    protocol = "frail"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    left: ClassVar[float] = math.inf
    manner: ClassVar[str] = "dies"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("frail://") if isinstance(path, str) else path)

    @classmethod
    def wrong(cls) -> bool:
        """Whether this operation goes wrong; raises where it is after the end."""
        cls.left -= 1
        if cls.left < 0 and cls.manner == "dies":
            raise ConnectionResetError("the line is dead")
        return cls.left == 0

    @classmethod
    def end(cls) -> None:
        if cls.manner == "dies":
            raise ConnectionResetError("the line went dead")

    def find(self, path, **kwargs):
        if self.wrong():
            self.end()
        return super().find(path, **kwargs)

    def cat_file(self, path, **kwargs):
        content = super().cat_file(path, **kwargs)
        if self.wrong():
            self.end()
            return content[: len(content) // 2]
        return content

    def get_file(self, rpath, lpath, **kwargs):
        content = super().cat_file(rpath)
        bad = self.wrong()
        Path(lpath).write_bytes(content[: len(content) // 2] if bad else content)
        if bad:
            self.end()

    def pipe_file(self, path, value, **kwargs):
        bad = self.wrong()
        super().pipe_file(path, value[: len(value) // 2] if bad else value, **kwargs)
        if bad:
            self.end()

    def put_file(self, lpath, rpath, **kwargs):
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path):
        if self.wrong():
            self.end()
        else:
            super().rm_file(path)


fsspec.register_implementation("frail", Frail)


def clear() -> None:
    for system in (Frail, MemoryFileSystem):
        system.store.clear()
        system.pseudo_dirs[:] = [""]
    Frail.left, Frail.manner = math.inf, "dies"


class Place:
    """An installation that shares a store."""

    def __init__(self, path: Path, url: str = "frail://sirl", base: str = BASE, **settings) -> None:
        self.state = StateDir(path)
        self.registry = Registry(self.state, base, RegistrySettings(url=url, **settings))
        assert self.registry.store is not None
        self.share = RegistrySync(self.state, self.registry, self.registry.store)

    def sync(self) -> None:
        self.share.sync()

    def publish(self, decision: str = "promoted") -> int:
        version = publish(self.registry)
        self.registry.attach(version, "evaluation", {"decision": decision})
        self.registry.attach(version, "calibration", {"made": version})
        return version

    def activate(self, version: int | None) -> None:
        self.registry.activate(version, actor="test", reason="trial")

    def sound(self) -> None:
        """What is visible here is whole, whatever happened."""
        assert not list(self.registry.path(1).parent.glob(".staging-*"))
        for adapter in self.registry.versions():
            self.registry.folder(adapter.version).check(BASE, self.registry.keys)
        if (live := self.registry.live()) is not None:
            self.registry.verify(live)

    def told(self) -> tuple:
        """What two places that share a store agree on."""
        versions = [(a.name, a.state, a.decision, a.pinned) for a in self.registry.versions()]
        files = {
            f"{adapter.name}/{file.name}": file.read_bytes()
            for adapter in self.registry.versions()
            for file in adapter.path.iterdir()
        }
        return versions, self.registry.live(), files


def one_sentence(error: Exception) -> bool:
    text = str(error)
    return text.endswith(".") and "\n" not in text
