"""What holds the parts together: who may import whom, and the few things that must exist once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("guard", "evaluation", "online", "serving", "models", "benchmarks", "tests")
MAY_IMPORT = {
    "guard": {"guard"},
    "models": {"models"},
    "evaluation": {"guard", "models", "evaluation"},
    "online": {"guard", "models", "evaluation", "online"},
    "serving": {"guard", "models", "evaluation", "online", "serving"},
    "benchmarks": {"guard", "models", "evaluation", "online", "serving", "benchmarks"},
}
HEAVY = ("torch", "vllm", "fastapi", "pydantic", "transformers")


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports, at the top or in a function, relative and by `import_module` included."""
    return imported(ast.parse(path.read_text(), str(path)), path.relative_to(ROOT).with_suffix("").parts)


def imported(tree: ast.AST, parts: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                base = ".".join(parts[: -node.level]) if node.level else ""
                names.add(".".join(filter(None, (base, node.module))))
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
    return names


def test_every_kind_of_import_is_seen():
    source = """
import a.b
def f():
    from c import d
    from . import e
    from ..g.h import i
    importlib.import_module("j.k")
"""
    assert imported(ast.parse(source), ("x", "y", "z")) == {"a.b", "c", "x.y", "x.g.h", "j.k"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    """guard <- evaluation <- online <- serving; the models stand alone, and nothing but tests reaches back."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in OURS and name.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert not wrong


def rooms(package: str) -> dict[str, set[str]]:
    """Each room of a package (a folder, or a module of its own) and the rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in modules(package):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        if parts == ("__init__",):
            continue
        mine = found.setdefault(parts[0], set())
        mine |= {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")} - {parts[0]}
    return found


def on_a_cycle(graph: dict[str, set[str]]) -> set[str]:
    """What can be reached from itself."""
    reached = {room: set(near) for room, near in graph.items()}
    for middle in graph:
        for one in graph:
            if middle in reached[one]:
                reached[one] |= reached[middle]
    return {room for room in graph if room in reached[room]}


def test_a_cycle_of_rooms_would_be_seen():
    assert on_a_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}
    assert rooms("online")["operations"] >= {"registry", "updates"}


@pytest.mark.parametrize("package", ["evaluation", "online", "serving"])
def test_no_room_needs_one_that_needs_it(package):
    assert on_a_cycle(rooms(package)) == set()


def test_guard_imports_the_standard_library_and_numpy_only():
    roots = {name.split(".")[0] for path in modules("guard") for name in imports(path)}
    assert roots - sys.stdlib_module_names == {"guard", "numpy"}


def test_guard_brings_nothing_heavy_into_a_clean_interpreter():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules("guard")]
    assert len(names) > 5
    script = (
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert {"guard", "numpy"} <= loaded
    assert not loaded & {*HEAVY, "evaluation", "online", "serving", "models"}


def test_vllm_is_touched_in_one_folder():
    touching = {
        path.relative_to(ROOT).as_posix()
        for path in modules(*MAY_IMPORT)
        for name in imports(path)
        if name.split(".")[0] == "vllm"
    }
    assert touching and all(path.startswith("serving/engine/") for path in touching)


def test_our_processes_are_started_in_one_way():
    """`-m` and `-c` alone import from the working directory: processes/interpreter.py leaves it out, and so do -P and -I."""
    bare = {
        path.relative_to(ROOT).as_posix()
        for path in modules("guard", "evaluation", "online", "serving", "models")
        if "sys.executable" in (text := path.read_text()) and not {'"-I"', '"-P"'} & set(re.findall(r'"-\w"', text))
    }
    assert bare == set()


def entropies(tree: ast.AST) -> Iterator[str]:
    """Places that compute the entropy of a tensor: p.exp() * p or p * p.log(), torch's own, or a function so called."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.Mult()):
                sides = [ast.unparse(side).lstrip("-") for side in (node.left, node.right)]
                for one, other in (sides, sides[::-1]):
                    if one in (f"{other}.exp()", f"{other}.log()", f"torch.exp({other})", f"torch.log({other})"):
                        yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(attr="entropy" | "entr")):
                yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.FunctionDef() if "entropy" in node.name:
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if any(a.annotation and "Tensor" in ast.unparse(a.annotation) for a in arguments):
                    yield f"line {node.lineno}: def {node.name}"


@pytest.mark.parametrize(
    "source",
    [
        "-(p * p.log()).sum(-1)",
        "-(logp.exp() * logp).sum(-1)",
        "(-x * torch.exp(x)).sum()",
        "torch.distributions.Categorical(logits=x).entropy()",
        "torch.special.entr(p)",
        "def row_entropy(x: torch.Tensor): return x",
    ],
)
def test_a_second_entropy_would_be_seen(source):
    assert list(entropies(ast.parse(source)))


def test_the_torch_entropy_exists_once():
    found = {
        path.relative_to(ROOT).as_posix(): places
        for path in modules("models", "evaluation", "online", "serving", "benchmarks")
        if (places := list(entropies(ast.parse(path.read_text()))))
    }
    assert set(found) == {"online/model/entropy.py"}, found


@pytest.mark.parametrize("user", ["serving/engine/packing.py", "online/model/decoding.py", "online/training/objective.py"])
def test_probe_and_trainer_use_that_one(user):
    assert "online.model.entropy" in imports(ROOT / user)


def test_the_trainer_computes_its_rewards_with_the_users_of_it():
    assert {"online.model.opening_trees", "online.training"} <= imports(ROOT / "online/training/trainer.py")


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the repository: what git tracks or would, or without git all that is not hidden, built or installed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0 and listed.stdout:
        files = [ROOT / name for name in listed.stdout.rstrip("\0").split("\0")]
    else:
        built = {"build", "dist", "__pycache__", "node_modules"}
        files = [
            path
            for path in ROOT.rglob("*")
            if not any(part in built or (part.startswith(".") and part != ".ci") for part in path.relative_to(ROOT).parts)
        ]
    return tuple(path for path in files if path.is_file())


def text(path: Path) -> str | None:
    content = path.read_bytes()
    return None if b"\0" in content[:8192] else content.decode(errors="replace")


def test_no_file_names_a_place_on_one_machine():
    """Home folders, checkouts and package mirrors of whoever wrote it are nobody else's."""
    machine = "|".join(("root", "work", "home", "Users", "opt/" + "(wheels|pypi)"))
    places = re.compile(rf"(?<![\w.~*$}}/-])/({machine})/|(?<![\w/])/opt/(wheels|pypi)\b")
    hosts = re.compile(
        r"https?://(?:[\w.-]+@)?(?:10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|[\w.-]+\.(?:internal|corp|lan)\b)"
    )
    assert places.search("cd /ro" + "ot/x") and hosts.search("https://mirror.int" + "ernal/simple")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path.suffix not in (".lock", ".jsonl") or path.stat().st_size < 1_000_000
        for number, line in enumerate((text(path) or "").splitlines(), 1)
        if places.search(line) or hosts.search(line)
    ]
    assert not found


def test_the_settings_page_is_the_reference_of_the_settings():
    from online.settings.reference import reference

    assert (ROOT / "docs/reference/settings.md").read_text() == reference(), "write it anew: make docs"


def test_the_bundled_model_stays_small():
    size = sum(path.stat().st_size for path in tracked() if path.is_relative_to(ROOT / "models/sirl-tiny"))
    assert 1_000_000 < size <= 10_000_000
