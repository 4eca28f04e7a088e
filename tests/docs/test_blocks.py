"""Every command and every Python block of the pages is run, on the shared server where it asks for one.

A block runs in an empty folder. `127.0.0.1:8000` is the shared server, the state directory is a new one. A block that is
not run has a comment before it that says why: `<!-- not run: takes an hour -->`. A block after `<!-- prints -->` is what the
block before it prints, apart from numbers and ids.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import COMMANDS, DATA, ROOT, Block, all_blocks, blocks, pages

PORT = "127.0.0.1:8000"
BLOCKS = all_blocks()
RUN = [block for block in BLOCKS if block.language in COMMANDS and block.reason is None]
ALONE, SERVED = ([block for block in RUN if (PORT in block.text) is served] for served in (False, True))
PRINTED = {after: before for before, after in zip(BLOCKS, BLOCKS[1:], strict=False) if after.prints}
LIMIT_S = 300


def run(block: Block, folder: Path, address: str = PORT) -> str:
    """What a block prints, run as a reader would run it: in an empty folder, by this environment."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SIRL_STATE_DIR": str(folder / "state"),
        "OPENAI_API_KEY": "unused",
    }
    command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    text = block.text.replace(PORT, address).replace(".venv/bin/", "")
    (work := folder / "work").mkdir()
    done = subprocess.run(
        [*command, text], cwd=work, env=environment, text=True, capture_output=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, f"{block.name}\n{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def shape(printed: str) -> str:
    """A text without what differs from one run to the next: numbers, ids, and how it is broken into lines."""
    printed = re.sub(r"([\"'])[0-9a-f]{12,}\1", "ID", printed)
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "N", "".join(printed.split()))


def told(block: Block, printed: str) -> None:
    """Fail where a page shows another output than its block has."""
    for after, before in PRINTED.items():
        if before == block:
            assert shape(printed) == shape(after.text), f"{after.name} is not what {block.name} prints:\n{printed}"


@pytest.mark.parametrize("block", ALONE, ids=lambda block: block.name)
def test_a_block_runs(block: Block, tmp_path: Path) -> None:
    told(block, run(block, tmp_path))


@pytest.mark.engine
@pytest.mark.parametrize("block", SERVED, ids=lambda block: block.name)
def test_a_block_runs_on_the_server(block: Block, tmp_path: Path, calibrated) -> None:
    told(block, run(block, tmp_path, calibrated.url.removeprefix("http://")))


def test_every_block_is_run_or_says_why_not() -> None:
    """A block is a command, which runs or has a reason, or data in a language we can read."""
    assert not [block.name for block in BLOCKS if block.language not in (*COMMANDS, *DATA)]
    assert not [block.name for block in BLOCKS if block.prints and PRINTED[block].language not in COMMANDS]
    assert not [block.name for block in BLOCKS if block.reason is not None and len(block.reason.split()) < 3]
    assert len(RUN) >= 20 and len(SERVED) >= 5


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.language in ("json", "toml")], ids=lambda block: block.name)
def test_data_can_be_read(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    try:
        assert json.loads(block.text) is not None
    except json.JSONDecodeError:  # JSON lines
        assert [json.loads(line) for line in block.text.splitlines()]


def test_every_command_is_in_a_fenced_block() -> None:
    """An indented block has no language: neither a reader nor the test above knows what it is."""
    found = []
    for page in pages():
        fenced, before = False, ""
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced and line.startswith("    ") and not before.strip():
                found.append(f"{page.relative_to(ROOT)}:{number}")
            before = line
    assert not found


def test_marks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n\n<!-- not run: takes an hour -->\n```bash\nsleep 3600\n```\n\n```python\nprint(1)\n```\n<!-- prints -->\n"
        "```text\n1\n```\n\n- in a list:\n\n  ```bash\n  true\n  ```\n",
        "utf-8",
    )
    first, second, third, fourth = blocks(page)
    assert (first.reason, first.line, first.text) == ("takes an hour", 4, "sleep 3600\n")
    assert (second.reason, second.prints, third.prints, third.text) == (None, False, True, "1\n")
    assert (fourth.language, fourth.text) == ("bash", "true\n")
    assert shape('{"a": 1.5, "event_id": "01a2b3c4d5e6f"}') == shape('{"a": -2e-5,\n "event_id": "f6e5d4c3b2a10"}')
    assert shape("{'verdict': 'risky'}") != shape("{'verdict': 'plain'}")
