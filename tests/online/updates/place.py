"""A state directory with traffic in its buffer, and what whole updates are held to: small settings, small suites."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import models
from evaluation import GrammarJudge, Prompt, load_suite
from online.events.buffer import Buffer
from online.events.client import client_named
from online.events.event import Event
from online.gate.evaluator import Suites
from online.model.fingerprint import fingerprint
from online.model.local_model import LocalModel
from online.registry.registry import Registry
from online.settings.settings import Settings
from online.state.directory import StateDir
from online.updates.forget import Successor, rebuild
from online.updates.record import UpdateOutcome
from online.updates.update import run_update
from tests.online.tiny_model import Quiet

QUICK = {"steps": 3, "contested_per_step": 3, "screened_per_step": 40, "group_size": 4, "max_tokens": 24, "threads": 1}
HERS = range(30, 200, 7)
"""Which of the traffic is the one client's who is to be forgotten."""


class Place:
    """A state directory with a buffer full of the bundled traffic."""

    def __init__(
        self, path: Path, events: int = 260, model: str | Path = models.DEFAULT, gate: dict | None = None, **learn: object
    ) -> None:
        self.base_dir = model if isinstance(model, Path) else models.bundled(model)
        weighed = {"prompts_per_class": 12, "fewest": 5, **(gate or {})}
        at_once = {"shadow": 0, "canary": 0}
        self.settings = Settings(state_dir=path, update={**QUICK, **learn}, gate=weighed, release=at_once)
        self.state = StateDir(path)
        (path / "client.salt").write_text("5a" * 32)  # it decides which prompts are never taught
        self.registry = Registry(self.state, fingerprint(self.base_dir))
        self.buffer = Buffer(self.state.buffer_url, self.settings.buffer)
        self.fill(events)

    def fill(self, count: int, start: int = 0, ago: float = 60.0) -> None:
        self.put([row.messages for row in load_suite(models.suite("traffic"))[start : start + count]], start, ago)

    def put(self, conversations: Sequence[Sequence[dict]], start: int = 0, ago: float = 60.0) -> None:
        llm = LocalModel.load(self.base_dir)
        asked = [(messages[-1]["content"], llm.render(messages)) for messages in conversations]
        self.buffer.append(
            [
                Event(f"{start + i:032x}", time.time() - ago, "base", "plain", text, tokens, "",
                      (), (), float("nan"), None, "stop", "c", self.registry.base)
                for i, (text, tokens) in enumerate(asked)
            ]
        )  # fmt: skip

    def run(self, suites: Suites | None) -> UpdateOutcome:
        return run_update(self.settings, self.state, self.registry, self.buffer, self.base_dir, suites, bar=Quiet)

    def files(self) -> list[str]:
        return sorted(file.name for folder in self.state.updates.iterdir() for file in folder.iterdir())


class Visited(Place):
    """A place where some of the prompts came from one client, mallory, or never came."""

    def __init__(self, path: Path, *, she_came: bool = True, **learn: object) -> None:
        super().__init__(path, events=0 if path.exists() else 200, **learn)
        if events := self.buffer.events(newest_first=False) if not self.registry.versions() else []:
            hers = [events[at] for at in HERS]
            self.buffer.delete([event.id for event in hers])
            if she_came:
                self.buffer.append([replace(event, client=client_named(self.state, "mallory")) for event in hers])

    def weights(self, version: int) -> bytes:
        return (self.registry.path(version) / "adapter_model.safetensors").read_bytes()

    def rebuilt(self, successor: Successor, suites: Suites) -> int:
        outcome = rebuild(successor, self.settings, self.state, self.registry, self.buffer, self.base_dir, suites)
        assert outcome.version is not None, outcome.reasons
        return outcome.version


def bundled_suites(harmful: int = 240, others: int = 60) -> Suites:
    """The bundled suites, so many prompts of each; enough harmful ones for a gap."""

    def load(split: str) -> list[Prompt]:
        prompts = load_suite(models.suite(split))
        sides = [[p for p in prompts if (p.kind == "harmful") is harm] for harm in (True, False)]
        return sides[0][:harmful] + sides[1][:others]

    return Suites(load("calibration"), load("validation"), load("gate"), GrammarJudge())
