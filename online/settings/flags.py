"""The settings as flags of a command."""

import argparse
from collections.abc import Collection

from online.settings.key import keys


def add_arguments(parser: argparse.ArgumentParser, groups: Collection[str], *, config_flag: str = "--config") -> None:
    """Adds the flags of `groups` ("top" among them); only flags that were given reach the namespace.

    `config_flag` names the file's flag otherwise where the parser has a --config of its own (vLLM's does).
    """
    section = parser.add_argument_group("sirl-guard")
    section.add_argument(
        config_flag,
        dest="sirl_config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="TOML file of settings",
    )
    for key in keys():
        if key.group not in groups:
            continue
        text = (key.info.description or "").replace("%", "%%")
        if key.info.annotation is bool:
            section.add_argument(
                key.flag,
                dest=key.dest,
                action=argparse.BooleanOptionalAction,
                default=argparse.SUPPRESS,
                help=text,
            )
        else:
            section.add_argument(key.flag, dest=key.dest, metavar="VALUE", default=argparse.SUPPRESS, help=text)
