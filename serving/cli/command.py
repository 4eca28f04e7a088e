"""What subcommands share: their settings' flags, the model they are given, and the end of their parent."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from online.settings.flags import add_arguments
from online.settings.load import load
from online.settings.settings import Settings

if TYPE_CHECKING:
    from online.operations.installation import Installation

MODEL = "model folder (default: the bundled sirl-tiny)"
LEARNING = ("top", "buffer", "queue", "calibrate", "update", "gate", "release", "registry")
"""The settings of what teaches a version and has it serve."""


def command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    groups: Sequence[str] | None = ("top",),
    model: str | None = "model",
) -> argparse.ArgumentParser:
    """A subcommand with the flags of these groups of settings (None: it reads none); `model`: how its model is given, by
    place or "--model"."""
    sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    sub.set_defaults(run=run)
    sub.add_argument("--while-parent", action="store_true", help=argparse.SUPPRESS)
    if model is not None:
        sub.add_argument(model, help=MODEL, nargs=None if model.startswith("-") else "?")
    if groups is not None:
        add_arguments(sub, groups)
    return sub


def chosen(args: argparse.Namespace, *, checked: bool = True) -> tuple[Settings, Path]:
    """Settings and the local model folder of a command."""
    from serving.model_check import resolve

    return load(args), Path(resolve(args.model, checked=checked))


def installation(args: argparse.Namespace) -> Installation:
    """What a command works on."""
    from online.operations.installation import Installation

    return Installation.of(*chosen(args))


def give_way(args: argparse.Namespace) -> None:
    """Lower our priority, so that what serves on this machine goes first; a server that started us has done so."""
    from serving.processes.learner_process import NICE

    if not args.while_parent:
        os.nice(NICE)


def moment(time: float) -> str:
    """Unix time as people read it."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")


def stop_with_parent() -> None:
    """Stop when our standard input ends: it is a pipe held by the process that started us."""

    def wait() -> None:
        while os.read(0, 4096):  # sys.stdin has a lock, and Python aborts where a thread still holds it at exit
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="sirl-parent", daemon=True).start()
