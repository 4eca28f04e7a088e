"""The record of an update: its folder, with plan, progress and outcome."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from guard.errors import SirlError
from online.state.files import write_atomic
from online.state.format import require

Status = Literal["promoted", "waiting", "rejected", "undecided", "refused", "failed"]
PLAN = "plan.json"
FORMAT = 1
"""Of a plan."""
ATTEMPTS = 3
"""Times an update is begun before it is given up: one that was killed goes on, one that kills its process must not."""


class PlanError(SirlError):
    """An update was begun whose plan cannot be read."""


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """How an update ended: the version it made, if any, why, and how long the last run of it took, in seconds."""

    id: str
    status: Status
    reasons: tuple[str, ...]
    version: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """An update's folder. `plan.json` says which data it learns from: events up to `until` (unix time, seconds; where it is
    not given, up to `started`), with `key`, once it is known, as their digest together with settings and calibration.
    `attempt` counts its beginnings since the last step that was kept. `threads`: torch's, when it began; a run
    that goes on takes as many."""

    folder: Path
    started: float
    key: str | None = None
    attempt: int = 1
    until: float | None = None
    threads: int | None = None

    @classmethod
    def open(cls, updates: Path) -> UpdateRecord:
        """The unfinished update, or a new one. Raises PlanError, and FormatError where a newer sirl-guard began it."""
        for plan in sorted(updates.glob(f"*/{PLAN}"), reverse=True):
            if not (plan.parent / "outcome.json").exists():
                record = cls.load(plan.parent)
                return replace(record, attempt=record.attempt + 1)._kept()
        return cls.new(updates)

    @classmethod
    def load(cls, folder: Path) -> UpdateRecord:
        """Of an update's folder. Raises PlanError, and FormatError where a newer sirl-guard began it."""
        path = folder / PLAN
        try:
            plan = json.loads(path.read_text("utf-8"))
            require(plan, FORMAT, path)
            started, key = float(plan["started"]), plan["key"]
            until = None if plan.get("until") is None else float(plan["until"])  # an older plan has no cutoff of its own
            record = cls(folder, started, key, plan.get("attempt", 1), until, plan.get("threads"))
            if (
                type(record.attempt) is not int
                or not isinstance(key, str | None)
                or not isinstance(record.threads, int | None)
            ):
                raise ValueError("its fields are malformed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"{path} is damaged ({error}): remove {folder}, and the update begins anew.") from error
        return record

    @classmethod
    def new(cls, updates: Path, until: float | None = None) -> UpdateRecord:
        now = time.time()
        folder = updates / f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        folder.mkdir(mode=0o700)
        return cls(folder, now, until=until)._kept()

    def claim(self, key: str | None, threads: int | None = None) -> UpdateRecord:
        """Note the digest of what it learns from, and with how many threads."""
        return replace(self, key=key, threads=threads)._kept()

    def _kept(self) -> UpdateRecord:
        plan = {name: getattr(self, name) for name in ("started", "key", "attempt", "until", "threads")}
        write_atomic(self.folder / PLAN, json.dumps({"format": FORMAT, **plan}))
        return self

    @property
    def given_up(self) -> bool:
        """Whether it ended its process too often to be begun again."""
        return self.attempt > ATTEMPTS

    def discard(self) -> UpdateRecord:
        """Forget this one and begin another."""
        shutil.rmtree(self.folder)
        return UpdateRecord.new(self.folder.parent, self.until)

    @property
    def cutoff(self) -> float:
        """Unix time in seconds before which an event must have come to teach."""
        return self.started if self.until is None else self.until

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def sound(self) -> Path:
        """The checkpoint of the last step at which a look found everything within what the gate allows."""
        return self.folder / "sound.pt"

    def progress(self, stage: str, step: int = 0, total: int = 0, eta: float | None = None) -> None:
        """What `status` and `metrics` show of a running update; `eta` in seconds."""
        document = {"stage": stage, "step": step, "total": total, "eta_seconds": eta, "time": time.time()}
        write_atomic(self.folder / "progress.json", json.dumps(document))

    def finish(self, outcome: UpdateOutcome) -> None:
        write_atomic(self.folder / "outcome.json", json.dumps(asdict(outcome), indent=1))
        for kept in (self.checkpoint, self.sound):
            kept.unlink(missing_ok=True)
