"""What the pages say is what the code says: generated pages, pictures, figures, refused flags, names of files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from docs import course, defence, gpu, pictures, reference
from online.settings.load import load
from serving.engine.arguments import FORBIDDEN, parse
from serving.engine.version import EngineError
from tests.docs.blocks import ROOT, pages
from tests.docs.sentences import sentences, words

README, CONTRIBUTING = (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))
LONGEST = 25
"""Words in a sentence."""
REFUSED_WITH = {"--runner pooling": "", "--model": " other", "--api-server-count": " 2", "--data-parallel-size": " 2"}
"""Flags that the README names as refused with some values: what a value adds."""
WORKERS_OWN = {"--enable-batch-sharded-sampling"}
"""Refused by the worker, once the engine starts: tests/serving/engine has it."""


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text("utf-8") == reference.PAGES[name](), "write it anew: make docs"


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_current_and_names_files(name: str) -> None:
    drawn = pictures.PICTURES[name]()
    assert (ROOT / "docs/images" / name).read_text("utf-8") == drawn, "draw it anew: make docs"
    lines = re.findall(r'class="module"[^>]*>([^<]+)<', drawn)
    assert lines or name == "overview.svg"
    for line in lines:
        first, *others = line.split(", ")
        for module in (first, *(f"{first.rpartition('/')[0]}/{other}" for other in others)):
            assert (ROOT / f"{module}.py").is_file(), f"{name} names {module}"


def test_the_page_of_the_gpu_is_current() -> None:
    assert gpu.PAGE.read_text("utf-8") == gpu.page(gpu.kept()), "write it anew: make docs"


@pytest.mark.parametrize("plot", [defence, course], ids=["defence", "course"])
def test_a_plot_is_current(plot: ModuleType) -> None:
    """Its points and not its bytes, which another version of matplotlib draws otherwise."""
    drawn, kept = plot.svg(), plot.PICTURE.read_text("utf-8")
    points = [
        re.findall(r'<use xlink:href="[^"]+" x="([\d.]+)" y="([\d.]+)" style="fill: #', text) for text in (drawn, kept)
    ]
    assert points[0] == points[1] and len(points[0]) > 16, "draw it anew: make docs"


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 100


def test_the_readme_has_the_studys_figures() -> None:
    results = json.loads(defence.RESULTS.read_text("utf-8"))
    rows = re.findall(r"^\| base (\d): (.+?) \| (.+) \|$", README.read_text("utf-8").replace("**", ""), re.MULTILINE)
    labels = {label: name for name, (label, _) in defence.RUNS.items()}
    assert len(rows) == 2 * len(labels)
    for base, label, cells in rows:
        found = defence.runs(results, int(base), labels[label])
        keys = ("dsr_seen", "dsr_unseen", "plain", "borderline", "utility")
        assert cells.split(" | ") == [f"{defence.percent(found, key):.0f}" for key in keys], (base, label)


def test_the_readme_names_every_refused_flag_and_no_other() -> None:
    text = README.read_text("utf-8")
    passage = text[text.index("These are refused at start") : text.index("## Your own model")]
    named = set(re.findall(r"`(--[a-z][a-z -]*)`", passage))
    forbidden = {f"--{name.replace('_', '-')}" for name in FORBIDDEN}
    assert named == forbidden | set(REFUSED_WITH) | WORKERS_OWN


@pytest.mark.parametrize("flag", REFUSED_WITH)
def test_a_flag_that_the_readme_names_is_refused(flag: str) -> None:
    with pytest.raises(EngineError):
        parse("model", f"{flag}{REFUSED_WITH[flag]}".split(), load(None, {}), bundled=False)


def test_contributings_ten_questions_lead_to_files() -> None:
    text = CONTRIBUTING.read_text("utf-8")
    rows = re.findall(r"^\| (Where [^|]+\?) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 10
    for question, answer in rows:
        named = re.findall(r"`([^`]+)`", answer)
        assert named and all((ROOT / name).exists() for name in named), question


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_files_that_exist(page: Path) -> None:
    """Paths in code style, from the repository's root."""
    folders = "guard|evaluation|online|serving|models|benchmarks|tests|docs|deploy|scripts|requirements"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text("utf-8"))
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize(
    "page",
    [page for page in pages() if page.parent.name not in ("reference", "science", "sirl-tiny", "deploy")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_sentences_are_short(page: Path) -> None:
    assert not [one for one in sentences(page.read_text("utf-8")) if words(one) > LONGEST]
