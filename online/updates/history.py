"""The history of an installation, told from its own files for `sirl doctor`: what happened, and what is left to do."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from guard.errors import SirlError
from online.events.journal import Journal
from online.state.directory import StateDir
from online.state.finding import Finding
from online.updates import progress
from online.updates.record import UpdateRecord

TOLD = 6
"""Entries of the audit log that are told, the newest ones."""
TROUBLE = {"adapter.rolled_back", "adapter.withdrawn", "adapter.passed_over", "failed"}


def happened(state: StateDir) -> Iterator[Finding]:
    """The last changes to what serves and the last updates, updates that were cut off, and events that wait."""
    yield from _changes(state)
    yield from _cut_off(state)
    waiting = Journal(state.journal_path)
    if not waiting.empty():
        kib = -(-waiting.path.stat().st_size // 1024)
        yield Finding(
            "warning", "journal", f"{kib} KiB of events wait in {waiting.path}: a server that writes replays them."
        )


def _changes(state: StateDir) -> Iterator[Finding]:
    newest: deque[Finding] = deque(maxlen=TOLD)
    torn = 0
    try:
        for line in _lines(state):
            try:
                entry = json.loads(line)
                if entry["event"].startswith(("adapter.", "update.")):
                    newest.append(_told(entry))
            except (ValueError, TypeError, KeyError, AttributeError):
                torn += not line.isspace()
    except OSError as error:
        yield Finding("error", "history", f"{state.audit_path} cannot be read ({error.strerror}).")
        return
    if torn:
        yield Finding("warning", "history", f"{torn} lines of {state.audit_path} are torn: who wrote them was killed.")
    yield from newest


def _lines(state: StateDir) -> Iterator[str]:
    for path in state.audit_files():
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


def _told(entry: dict[str, Any]) -> Finding:
    """One entry in a sentence. What it quotes was written by the project itself or by operators, and holds no prompt."""
    event, version = entry["event"], entry["version"]
    if event == "update.finished":
        event = entry["status"]
        what = f"update {entry['id']} ended as {event}" + ("" if version is None else f", {_name(version)}")
    else:
        what = f"{event.replace('.', ' ').replace('_', ' ')}, {_name(version)}"
    if "previous" in entry and entry["previous"] != version:
        what += f" in place of {_name(entry['previous'])}"
    if "actor" in entry:
        what += f", by {entry['actor']}"
    why = entry.get("reason") or entry.get("error") or "; ".join(entry.get("reasons", ()))
    message = f"{entry['time'][:19]} {what}{f': {why}' if why else '.'}"
    return Finding("warning" if event in TROUBLE else "ok", "history", message)


def _name(version: int | None) -> str:
    return "the base" if version is None else f"v{version}"


def _cut_off(state: StateDir) -> Iterator[Finding]:
    for folder in progress.folders(state):
        if progress.read(folder, "outcome.json") is not None:
            continue
        try:
            record = UpdateRecord.load(folder)
        except SirlError as error:
            yield Finding("error", "updates", str(error))
            continue
        at = progress.read(folder, "progress.json")
        where = "before its first stage" if at is None else f"{at['stage']}, step {at['step']} of {at['total']}"
        since = time.time() - (record.started if at is None else at["time"])
        yield Finding(
            "warning",
            "updates",
            f"{folder.name} has no outcome (attempt {record.attempt}, {where}, {since / 60:.0f} min ago): it runs, "
            "or was killed and goes on at the next `sirl update`.",
        )
