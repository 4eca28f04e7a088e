"""`sirl`: reads which subcommand is meant and runs it; expected failures are one sentence and exit status 1."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from guard.errors import SirlError
from serving.cli import (
    adapters,
    calibrate,
    demo,
    doctor,
    explain,
    fetch,
    forget,
    learn,
    queue,
    repeat,
    reproduce,
    serve,
    settings,
    update,
)
from serving.cli.command import stop_with_parent
from serving.cli.version import versions
from serving.engine.version import EngineError

COMMANDS = (fetch, calibrate, update, learn, adapters, explain, forget, queue, repeat, doctor, demo, reproduce, settings)
"""In the order of `sirl --help`, behind `serve` and `eval`, which have parsers of their own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)  # what we write holds prompts and keys
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for ours in ("sirl", "online", "serving"):  # vLLM's set-up raises the root's level, and our warnings must be heard
        logging.getLogger(ours).setLevel(logging.INFO)
    for client in ("httpx", "httpx2", "openai"):  # a line a request would drown everything else
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        if argv[:1] == ["serve"]:
            return serve.run(argv[1:])
        if argv[:1] == ["eval"]:
            from evaluation import command

            return command.main(argv[1:])
        args = parser().parse_args(argv)
        if args.while_parent:
            stop_with_parent()
        status: int = args.run(args)
        return status
    except (SirlError, EngineError, FileNotFoundError) as error:
        print(f"sirl: {error}" + ("" if str(error).endswith((".", "?")) else "."), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who reads our output has had enough of it, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def parser() -> argparse.ArgumentParser:
    """The parser of every subcommand but `serve`, whose flags are vLLM's, and `eval`, whose import takes a second."""
    top = argparse.ArgumentParser(
        prog="sirl",
        description="Safety-instinct guard and online learner for vLLM.",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # --version is four lines
    )
    top.add_argument("--version", action="version", version=versions(), help="print what is installed, by version")
    top.set_defaults(while_parent=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("serve", help="vLLM's OpenAI server with the guard inside: sirl serve [MODEL] [vllm flags]")
    commands.add_parser("eval", help="attack any endpoint, and say how well it is defended: sirl eval --help")
    for module in COMMANDS:
        module.add(commands)
    return top
