"""An installation: one state directory, and the model whose adapters lie in it. Every operation works on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guard.errors import SirlError
from online.events.buffer import Buffer
from online.model.fingerprint import fingerprint
from online.registry.registry import Registry
from online.registry.sync import synchronise
from online.settings.settings import Settings
from online.state.directory import StateDir


@dataclass(frozen=True, slots=True)
class Installation:
    """What an operation needs to know; `of` makes one.

    Attributes:
        model: the model's folder, or the name it goes by where it has none here.
        known: the registry of the adapters made for that model, None where it has no folder to take a fingerprint of.
    """

    settings: Settings
    model: Path
    state: StateDir
    known: Registry | None

    @classmethod
    def of(cls, settings: Settings, model: Path) -> Installation:
        """Opens the state directory and the registry. Raises StateError, FingerprintError, and KeyFileError for keys that
        cannot be read."""
        state = StateDir(settings.state_dir)
        known = Registry(state, fingerprint(model), settings.registry) if model.is_dir() else None
        return cls(settings, model, state, known)

    @property
    def registry(self) -> Registry:
        """The registry. Raises SirlError where there is none."""
        if self.known is None:
            raise SirlError("This model has no local folder to fingerprint, so it has no adapters: serve a folder.")
        return self.known

    @property
    def fingerprint(self) -> str | None:
        """The identity of the base model, None where it has no folder."""
        return None if self.known is None else self.known.base

    def open_buffer(self) -> Buffer:
        """A connection to the events' database, which whoever asks for it closes. Raises BufferError."""
        return Buffer(self.settings.buffer.url or self.state.buffer_url, self.settings.buffer)

    @contextmanager
    def buffer(self) -> Iterator[Buffer]:
        """The events' database until the block ends. Raises BufferError."""
        buffer = self.open_buffer()
        try:
            yield buffer
        finally:
            buffer.close()

    def synchronise(self) -> None:
        """Bring the registry and its store, if it has one, to the same; what hinders that is said and raises nothing."""
        synchronise(self.state, self.registry)
