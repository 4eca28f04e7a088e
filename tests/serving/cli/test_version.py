"""What is installed, as a bug report needs it; tests/test_packaging.py asks the installed command."""

from __future__ import annotations

from importlib import metadata

from serving.cli.version import ABSENT, of, versions


def test_each_part_has_a_line_and_what_is_absent_says_so() -> None:
    lines = dict(line.split(" ", 1) for line in versions().splitlines())
    assert list(lines) == ["sirl-guard", "vLLM", "torch", "Python"] and lines["torch"] == metadata.version("torch")
    assert of("no-such-distribution") == ABSENT
