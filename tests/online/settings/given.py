"""Settings as flags, environment and files give them."""

from __future__ import annotations

import argparse

from online.settings.flags import add_arguments

GROUPS = ("top", "guard", "buffer", "queue", "calibrate", "update", "gate", "release", "learn", "registry")


def parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, GROUPS)
    return parser.parse_args(flags)
