"""A pytest plug-in for scripts/matrix: tests that ask for a package that is left out are skipped, and counted by package.

MATRIX_LEFT_OUT names the packages, by commas. Only a failure that says that one of them is no module here, or no package, is
a skip.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

LEFT_OUT = frozenset(os.environ.get("MATRIX_LEFT_OUT", "").split(","))
counts: Counter[str] = Counter()


def missing(text: str) -> str | None:
    """The package that was left out and missed, by what an error says."""
    named = re.findall(r"(?:No module named '|No package metadata was found for )(\w+)", text)
    return named[-1] if named and named[-1] in LEFT_OUT else None


def skip(report: pytest.TestReport | pytest.CollectReport, unit: str) -> None:
    """Turn a failure for a package that was left out into a skip."""
    if report.failed and (name := missing(str(report.longrepr))):
        report.outcome = "skipped"
        report.longrepr = (str(report.fspath), 0, f"Skipped: {name} is left out")
        counts[f"{unit} without {name}"] += 1


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    skip(report, "modules")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    skip(report, "tests")
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    left = ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "nothing"
    terminalreporter.write_line(f"left out: {left}")
