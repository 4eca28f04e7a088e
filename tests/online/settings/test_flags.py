"""Flags of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from online.settings.flags import add_arguments
from online.settings.load import load
from tests.online.settings.given import parse


def test_switches_and_lists() -> None:
    digest = "AB" * 32
    settings = load(parse("--no-guard-report", "--guard-no-store-keys", digest), {})
    assert settings.guard.report is False
    assert settings.guard.no_store_keys == (digest.lower(),)


def test_own_name_for_the_config_flag(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    add_arguments(parser, ("buffer",), config_flag="--sirl-config")
    file = tmp_path / "a.toml"
    file.write_text("[buffer]\nbatch_size = 3\n")
    args = parser.parse_args(["--sirl-config", str(file), "--config", "vllm.yaml"])
    assert load(args, {}).buffer.batch_size == 3
    assert "--update-steps" not in parser.format_help()
