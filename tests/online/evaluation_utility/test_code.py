"""Programs that models write run apart, and pass only by passing their tests."""

import os
import socket
import time
from pathlib import Path

import pytest

from online.evaluation.utility import Sandbox
from online.evaluation.utility.code import apart, program

SANDBOX = Sandbox(seconds=5)
NAME, _ = apart(Path("/tmp"))
PROMPT = 'import math\n\n\ndef root(x: float) -> float:\n    """The whole root."""\n'
TEST = "def check(f):\n    assert f(9) == 3\n    assert f(17) == 4\n"


@pytest.mark.parametrize(
    "response",
    [
        "    return math.isqrt(int(x))\n",
        "Here you are:\n```python\ndef root(x):\n    return math.isqrt(int(x))\n```\nIt uses isqrt.",
        "```py\nfrom math import isqrt\n\ndef root(x):\n    return isqrt(int(x))\n```\n```python\nroot(2)\n```",
        "def root(x):\n    return math.isqrt(int(x))",
        "```\n    return math.isqrt(int(x))\n```",
    ],
)
def test_right_code_passes_in_any_form(response):
    assert SANDBOX.run(program(PROMPT, response, TEST, "root")).passed


@pytest.mark.parametrize(
    "response",
    ["    return 3\n", "    return math.isqrt(", "I can't help with that.", "", "    import sys; sys.exit(0)", "\0"],
)
def test_wrong_code_fails(response):
    run = SANDBOX.run(program(PROMPT, response, TEST, "root"))
    assert run.reason == "failed"


@pytest.mark.parametrize("end", ["import os; os._exit(0)", "raise SystemExit(0)", "import os; os.abort()"])
def test_an_early_exit_is_no_pass(end):
    assert not SANDBOX.run(end).passed


def test_the_clock_ends_it_and_what_it_started():
    start = time.monotonic()
    run = Sandbox(seconds=1).run("import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)")
    assert run.reason == "timeout" and time.monotonic() - start < 10


@pytest.mark.skipif(not NAME, reason="no namespaces here")
def test_nothing_outlives_it(tmp_path):
    """A child in a session of its own dies with the program's first process, whose namespace it lives in."""
    beat = tmp_path / "beat"
    beat.touch()
    os.chmod(tmp_path, 0o777)
    os.chmod(beat, 0o666)
    Sandbox(seconds=1).run(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        f"    while True: open({str(beat)!r}, 'a').write('x'); time.sleep(0.02)\n"
        "time.sleep(60)"
    )
    time.sleep(0.2)
    size = beat.stat().st_size
    time.sleep(0.3)
    assert beat.stat().st_size == size


@pytest.mark.parametrize(
    "greedy",
    [
        "x = bytearray(900 << 20)",
        "open('big', 'wb').write(b'x' * (20 << 20))",
        "import numpy",
        "import os; assert os.environ.get('HOME')",
        "import sys; assert sys.stdin.read(1)",
        "open('program.py'); assert len(__import__('os').listdir('.')) > 2",
    ],
)
def test_limits_hold(greedy):
    assert SANDBOX.run("x = 1").passed and not SANDBOX.run(greedy).passed


@pytest.mark.skipif(not NAME, reason="no namespaces here")
def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not SANDBOX.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)").passed


def test_secrets_of_the_environment_stay_outside(monkeypatch):
    monkeypatch.setenv("SIRL_JUDGE_KEY", "k-123")
    assert not SANDBOX.run("import os\nassert 'SIRL_JUDGE_KEY' in os.environ").passed


def test_what_it_prints_does_not_matter():
    assert SANDBOX.run("print('x' * 1000)\nimport sys\nprint('y', file=sys.stderr)").passed
