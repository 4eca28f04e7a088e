"""docs/explanation/testing.md names each test that is left to the night, and each module that starts a server of its own."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/explanation/testing.md").read_text()


def named(heading: str) -> set[str]:
    """The test modules in the first column of the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `tests/(\w[\w/]*\.py)`", section, re.MULTILINE))


def modules(pattern: str) -> set[str]:
    """The test modules in whose text a pattern is found, without software of others and the test of the workers."""
    found = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py") if re.search(pattern, path.read_text())}
    return {name for name in found if not name.startswith("interop/") and name != "test_workers.py"}


def test_what_is_left_to_the_night_is_told() -> None:
    assert named("Nightly tests") == modules(r"\bmark\.nightly\b")


def test_who_starts_a_server_of_its_own_is_told() -> None:
    own = modules(r"\bwith running\(")
    assert named("Which server a test needs") >= own - {"serving/test_engines.py", "serving/test_parity.py"}, "interop, gpu"
    assert own
