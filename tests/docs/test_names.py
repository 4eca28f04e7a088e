"""Commands, settings, metrics and alerts that the pages name exist, whether their blocks are run or not."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from docs import reference
from evaluation.command import flags
from online.settings.key import keys
from serving.cli import main, serve
from serving.engine import arguments
from tests.docs.blocks import ROOT, blocks, pages

PAGES = [page for page in pages() if page.name not in ("CHANGELOG.md", "tables.md")]
NAMED = {"adapters", "queue", "explain", "repeat", "reproduce"}
"""Commands that a sentence may name without the arguments that they need."""
BY_NAME = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def spans(page: Path) -> list[str]:
    """Texts in code style outside of blocks."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def lines(page: Path) -> Iterator[str]:
    """Commands of a page: in its blocks, a line each, and in its sentences."""
    for block in blocks(page):
        if block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                yield from re.split(r" && | \| ", line.split(" #")[0].strip())
    yield from spans(page)


@cache
def vllms() -> frozenset[str]:
    """Every flag of `vllm serve`."""
    return frozenset(arguments.parser()._option_string_actions)


@cache
def parser_of(name: str) -> argparse.ArgumentParser:
    return {"serve": serve.parser, "eval": flags.parser, "sirl": main.parser}[name]()


def understood(words: list[str]) -> None:
    """Fail where `sirl` does not know a command, or one of its flags."""
    if words[0] == "serve":
        _, rest = parser_of("serve").parse_known_args(words[1:])
        unknown = {word for word in rest if word.startswith("--")} - vllms()
        assert not unknown, f"sirl serve knows no {unknown}"
        return
    parser = parser_of("eval" if words[0] == "eval" else "sirl")
    try:
        parser.parse_args(words[1:] if words[0] == "eval" else words)
    except SystemExit as end:
        assert end.code == 0, f"sirl {' '.join(words)}"
    except argparse.ArgumentError as error:
        raise AssertionError(f"sirl {' '.join(words)}") from error


@BY_NAME
def test_commands_are_understood(page: Path) -> None:
    for line in lines(page):
        if not line.startswith("sirl ") or re.search(r"[\[\]{}|]|\.\.\.|COMMAND", line):
            continue
        words = shlex.split(line)
        if len(words) > 2 or words[1] not in NAMED:
            understood(words[1:])


@BY_NAME
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {match[1] for line in lines(page) if (match := re.fullmatch(r"make ([a-z-]+)", line.strip()))}
    assert named <= targets


@BY_NAME
def test_settings_exist(page: Path) -> None:
    groups = {key.group for key in keys()} - {"top"}
    named = {span for span in spans(page) if re.fullmatch(rf"({'|'.join(groups)})\.[a-z_]+", span)}
    known = {key.path for key in keys()}
    files = {span for span in named if span.endswith((".py", ".jsonl"))}
    assert named - files <= known | {"buffer.failing"}  # of `status`
    flags_named = {
        match[0] for span in spans(page) for match in re.finditer(r"--(?:guard|buffer|update|gate)-[a-z-]+", span)
    }
    assert flags_named <= {key.flag for key in keys()} | {"--no-guard-report", "--guard-config"}


@BY_NAME
def test_metrics_and_alerts_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    metrics = set(re.findall(r"`(sirl_[a-z_]+)[`{]", text))
    assert metrics <= set(re.findall(r"`(sirl_[a-z_]+)`", reference.metrics()))
    alerts = set(re.findall(r"`(Sirl[A-Z]\w+)`", text))
    assert alerts <= set(re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")))


def test_a_wrong_command_is_found() -> None:
    for wrong in ("queue burn --prompt HASH", "serve --guard-mood enforce", "eval --attack direct", "dance"):
        with pytest.raises(AssertionError):
            understood(wrong.split())
