"""The image's recipe, held against the tree and, where no engine can build it, run step by step in a clean directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_REPLAYED = ("apt-get", "useradd")
"""First words of RUN steps that change the system itself: their syntax is checked, no more."""


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name, each with its (instruction, arguments) in order."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    for step in filter(str.strip, "\n".join(lines).replace("\\\n", " ").splitlines()):
        instruction, arguments = step.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = arguments.split()
            found[name] = Stage(base, name)
        else:
            next(reversed(found.values())).steps.append((instruction, arguments))
    return found


def steps_of(target: str) -> list[tuple[str, str]]:
    """All steps that make a target, in an order an engine could take them."""
    known, order = stages(), []

    def visit(name: str) -> None:
        if name in known and name not in order:
            visit(known[name].base)
            for instruction, arguments in known[name].steps:
                if instruction == "COPY" and (source := re.match(r"--from=(\S+)", arguments)):
                    visit(source[1])
            order.append(name)

    visit(target)
    return [step for name in order for step in known[name].steps]


def last(target: str, instruction: str) -> str:
    """Arguments of the instruction that counts in the image: the last one in the target or what it is FROM."""
    known = stages()
    while target in known:
        if given := [arguments for name, arguments in known[target].steps if name == instruction]:
            return given[-1]
        target = known[target].base
    raise AssertionError(f"no {instruction}")


def ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a path of the tree out of the build; the last line that fits decides."""
    out, name = False, path.relative_to(ROOT).as_posix()
    for line in (ROOT / ".dockerignore").read_text().split("\n"):
        pattern = line.strip().lstrip("!")
        if pattern and not pattern.startswith("#"):
            tail = pattern.removeprefix("**/")
            names = path.relative_to(ROOT).parts if tail != pattern else ()
            if pattern == "*" or name == pattern or name.startswith(pattern + "/") or any(fnmatch(n, tail) for n in names):
                out = not line.startswith("!")
    return out


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_both_targets_run_as_a_user_on_a_state_volume(target):
    assert last(target, "USER") not in ("root", "0")
    assert last(target, "VOLUME") == last(target, "WORKDIR") == "/state"
    assert last(target, "EXPOSE") == "8000"
    assert json.loads(last(target, "ENTRYPOINT")) == ["sirl"]
    command = json.loads(last(target, "CMD"))
    assert command == ["serve", "--host", "0.0.0.0", "--state-dir", "/state", "--learn"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_health_check_asks_the_server(target):
    command = json.loads(last(target, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:3] == ["python", "-I", "-c"], "/state is its working directory, and holds no modules"
    assert "http://127.0.0.1:8000/health" in command[3]
    refused = subprocess.run([sys.executable, "-c", command[3].replace(":8000", ":9")], capture_output=True, timeout=60)
    assert refused.returncode == 1


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_each_target_installs_by_its_own_lock_and_without_the_test_tools(target):
    steps = steps_of(target)
    installs = [arguments for name, arguments in steps if name == "RUN" and "scripts/install" in arguments]
    assert len(installs) == 1 and installs[0].endswith(f"scripts/install {target} /opt/venv")
    assert ("ENV", "SIRL_DEV=0 SIRL_EDITABLE=0") in steps
    assert not re.search(r"pip install|pytest|ruff|mypy", " ".join(arguments for _, arguments in steps))


def test_every_shell_step_is_shell():
    for target in ("cpu", "cuda"):
        for name, arguments in steps_of(target):
            if name == "RUN":
                subprocess.run(["sh", "-n", "-c", re.sub(r"--mount=\S+ ", "", arguments)], check=True)


def test_what_is_copied_exists_and_reaches_the_build():
    for name, arguments in steps_of("cpu"):
        if name == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists() and not ignored(ROOT / source), source
    assert ignored(ROOT / ".venv") and ignored(ROOT / ".git") and ignored(ROOT / "tests")
    assert ignored(ROOT / "guard/__pycache__/word.cpython-311.pyc") and not ignored(ROOT / "guard/packed_measurement.py")


def replay(target: str, root: Path) -> dict[str, str]:
    """Take a target's steps with `root` in the place of /; the environment the image would have."""
    environment = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "HOME"))}
    environment |= {"PATH": os.environ["PATH"], "PYTHON": getattr(sys, "_base_executable", sys.executable)}
    place = root

    def inside(path: str) -> Path:
        return root / path.lstrip("/") if path.startswith("/") else place / path

    for name, arguments in steps_of(target):
        if name == "WORKDIR":
            place = inside(arguments)
            place.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for assignment in shlex.split(arguments):
                key, _, value = assignment.partition("=")
                value = re.sub(r"\$(\w+)", lambda known: environment[known[1]], value)
                environment[key] = value.replace("/opt/venv", str(root / "opt/venv"))
        elif name == "COPY" and arguments.startswith("--from"):
            _, source, destination = arguments.split()
            assert source == destination and inside(source).is_dir(), "stages share one root here"
        elif name == "COPY":
            *sources, destination = arguments.split()
            for source in sources:
                end = inside(destination) / Path(source).name if destination.endswith("/") else inside(destination)
                end.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    leave = lambda folder, names: [n for n in names if ignored(Path(folder) / n)]  # noqa: E731
                    shutil.copytree(ROOT / source, end, ignore=leave)
                else:
                    shutil.copy(ROOT / source, end)
        elif name == "RUN":
            # pip's cache is the host's, for an engine would mount one
            command = re.sub(r"--mount=\S+ |PIP_CACHE_DIR=\S+ ", "", arguments)
            if not command.startswith(NOT_REPLAYED):
                command = re.sub(r"(?<![\w.])/opt/venv", str(root / "opt/venv"), command)
                subprocess.run(["sh", "-c", command], cwd=place, env=environment, check=True)
    return environment


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_the_steps_of_the_cpu_image_make_a_working_command(tmp_path):
    environment = replay("cpu", tmp_path)
    state = tmp_path / "state"
    sirl = shutil.which("sirl", path=environment["PATH"])
    assert sirl == str(tmp_path / "opt/venv/bin/sirl")

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=state, env=environment, check=True, capture_output=True, text=True).stdout

    assert "serve" in run(sirl, "--help")
    assert "state_dir" in run(sirl, "settings")
    python = str(tmp_path / "opt/venv/bin/python")
    where = run(python, "-c", "import guard, models; print(guard.__file__, models.bundled())").split()
    assert all(path.startswith(str(tmp_path / "opt/venv/lib")) for path in where), "a copy, not a link to the sources"
    tools = ("pytest", "hypothesis", "mypy", "ruff", "torchvision", "torchaudio", "torchcodec")
    script = f"import importlib.util as u; print([n for n in {tools!r} if u.find_spec(n)])"
    assert run(python, "-c", script).strip() == "[]"
    shutil.rmtree(tmp_path / "opt")
