"""Programs that models write run apart, and pass only by passing their tests."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from evaluation.utility import Sandbox, UtilityError, code
from evaluation.utility.code import apart, files_are_safe, program

SANDBOX = Sandbox(seconds=5, bare=True)
APART, _ = apart(Path("/tmp"))
NAMESPACE = "bwrap" in APART or "unshare" in APART
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
    run = Sandbox(seconds=1, bare=True).run("import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(60)")
    assert run.reason == "timeout" and time.monotonic() - start < 10


def living() -> list[str]:
    """Processes that still have their home in some sandbox."""
    homes = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            homes.append(os.readlink(link))
    return [home for home in homes if "/sandbox-" in home]


@pytest.mark.skipif(not NAMESPACE, reason="no namespaces here")
def test_nothing_outlives_it():
    """A child in a session of its own dies with the program's first process, whose namespace it lives in."""
    child = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(20)\n"
    assert SANDBOX.run(child).reason == "passed"
    assert Sandbox(seconds=1, bare=True).run(f"{child}time.sleep(60)").reason == "timeout"
    deadline = time.monotonic() + 10  # the kernel ends them in its own time; a survivor would sleep for twenty seconds
    while living() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not living()


FILES = pytest.mark.skipif(not files_are_safe(), reason="neither Landlock nor bubblewrap here")


@FILES
@pytest.mark.parametrize(
    "act",
    [
        "open({!r}).read()",
        "open({!r}, 'a')",
        "import os; os.remove({!r})",
        "import os; os.listdir(os.path.dirname({!r}))",
    ],
)
def test_files_of_its_user_are_out_of_reach(tmp_path, act):
    mine = tmp_path / "mine"
    mine.write_text("x")
    assert not Sandbox().run(act.format(str(mine))).passed and mine.read_text() == "x"


@FILES
def test_it_may_use_its_own_folder_and_the_standard_library():
    text = "import json, decimal, os\nos.mkdir('d'); open('d/f', 'w').write('x'); os.remove('d/f')\nprint(os.listdir('.'))"
    assert Sandbox().run(text).passed


@pytest.mark.skipif("landlock" not in APART, reason="no Landlock here")
def test_no_other_program_can_be_started():
    assert not Sandbox().run("import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)").passed


def test_without_any_fence_nothing_runs_unasked(monkeypatch):
    monkeypatch.setattr(code, "files_are_safe", lambda: False)
    with pytest.raises(UtilityError, match="nothing here keeps a program from its user's files: install bubblewrap"):
        Sandbox().run("x = 1")
    assert Sandbox(bare=True).run("x = 1").passed


@pytest.mark.parametrize(
    "greedy",
    [
        "x = bytearray(900 << 20)",
        "open('big', 'wb').write(b'x' * (20 << 20))",
        "import numpy",
        "import os; assert os.environ.get('HOME')",
        "import sys; assert sys.stdin.read(1)",
        "assert len(__import__('os').listdir('.')) > 2",
    ],
)
def test_limits_hold(greedy):
    assert SANDBOX.run("x = 1").passed and not SANDBOX.run(greedy).passed


@pytest.mark.skipif(not NAMESPACE, reason="no namespaces here")
def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not SANDBOX.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)").passed


def test_no_other_program_is_reached_by_a_socket_in_the_file_system(tmp_path):
    """Such as a container engine's; a pair of its own it may have."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        asked = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({str(tmp_path / 's')!r})"
        assert not SANDBOX.run(asked).passed
    assert SANDBOX.run("import socket\nsocket.socketpair()\nsocket.socket(socket.AF_INET)").passed


def test_secrets_of_the_environment_stay_outside(monkeypatch):
    monkeypatch.setenv("SIRL_JUDGE_KEY", "k-123")
    assert not SANDBOX.run("import os\nassert 'SIRL_JUDGE_KEY' in os.environ").passed


def test_what_it_prints_does_not_matter():
    assert SANDBOX.run("print('x' * 1000)\nimport sys\nprint('y', file=sys.stderr)").passed
