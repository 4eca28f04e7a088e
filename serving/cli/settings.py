"""`sirl settings`: the reference of all settings."""

from __future__ import annotations

import argparse

from online.settings.reference import reference
from serving.cli.command import command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command(commands, "settings", run, "print the reference of all settings", (), model=None)


def run(args: argparse.Namespace) -> int:
    print(reference(), end="")
    return 0
