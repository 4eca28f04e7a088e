"""Which tests share a worker, and which begin first (pytest-xdist; scripts/test).

All that use the shared server run on one worker, so that it is started once. Of every other module those for `make test`
stay together, and the nightly ones, so that its own server or model is made once. Only workers know the tests: each writes
down their groups, and who hands them out reads that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from xdist.scheduler import LoadScopeScheduling

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
"""Which of the workers this process is, or None where tests run one by one."""
FOLDER = pytest.StashKey[TemporaryDirectory]()


def group(item: pytest.Item) -> str:
    """What a test stays together with."""
    if "server" in getattr(item, "fixturenames", ()):
        return "the shared server"
    return item.nodeid.split("::")[0] + (", nightly" if item.get_closest_marker("nightly") else "")


def length(items: list[pytest.Item]) -> float:
    """About how many seconds these tests take, by their marks; the start of a server, which engine tests need, is in it."""
    marks = [{mark.name for mark in item.iter_markers()} for item in items]
    start = 40.0 if any("engine" in names for names in marks) else 0.0
    return start + sum(90 if "nightly" in names else 30 if "slow" in names else 0.5 for names in marks)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the tests that are chosen, the group that takes longest first."""
    if not hasattr(config, "workerinput"):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    items[:] = [item for members in sorted(groups.values(), key=length, reverse=True) for item in members]
    names = {item.nodeid: name for name, members in groups.items() for item in members}
    Path(config.workerinput["groups"], config.workerinput["workerid"]).write_text(json.dumps(names))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a worker where to write them down."""
    if FOLDER not in node.config.stash:
        node.config.stash[FOLDER] = TemporaryDirectory(prefix="sirl-tests-")
    node.workerinput["groups"] = node.config.stash[FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if FOLDER in config.stash:
        config.stash[FOLDER].cleanup()


class Groups(LoadScopeScheduling):
    """Hands out whole groups, in the order in which they were collected."""

    names: dict[str, str] | None = None

    def _split_scope(self, nodeid: str) -> str:
        if self.names is None:
            (written, *_) = Path(self.config.stash[FOLDER].name).iterdir()
            self.names = json.loads(written.read_text())
        return self.names[nodeid]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Groups:
    config.option.loadscopereorder = False
    return Groups(config, log)
